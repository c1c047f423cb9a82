import { createHash } from 'node:crypto'
import type { FoundTable } from '../sql/heartbeat.js'
import { announcers, type TableTriggers, type TriggerSet } from '../sql/trigger-set.js'
import type { Finding } from './leased-trust.js'

/**
 * Judges what a heartbeat found. Pure.
 *
 * @param found - the heartbeat's column `tables`, JSON as text; null when no table was found
 * @returns the text as signature when all is in order, else what is not
 */
export function judgeTriggers (wanted: TriggerSet, found: string | null): Finding {
  const tables = (JSON.parse(found ?? '[]') ?? []) as readonly FoundTable[]
  for (const [index, triggers] of wanted.tables.entries()) {
    const members = tables.filter(({ place }) => place === index + 1)
    if (members.length === 0) return { flaw: `The table ${triggers.table} does not exist` }
    for (const member of members) {
      const flaw = flawOf(triggers, member)
      if (flaw !== null) return { flaw }
    }
  }
  return { signature: found ?? '' }
}

function flawOf ({ table, name, body, columns, columnList }: TableTriggers, { kind, computed, unseen, triggers }: FoundTable): string | null {
  if (kind !== 'r' && kind !== 'p') return `${table} is, or is read with, something that is not a table, so that changes cannot be announced`
  const invisible = columns.find(column => computed.includes(column))
  if (invisible !== undefined) return `${JSON.stringify(invisible)} of ${table} is a virtual generated column, which triggers do not see. Watch the columns that it is computed from`
  const hash = createHash('md5').update(body).digest('hex')
  for (const { suffix, type } of Object.values(announcers)) {
    const trigger = triggers?.find(({ name: its }) => its === name + suffix)
    if (trigger === undefined) return `A trigger that announces changes of ${table} is missing`
    if (trigger.enabled !== 'A') return `A trigger that announces changes of ${table} is not enabled for all (ENABLE ALWAYS)`
    const { columns: list } = trigger
    const isListed = list.length > 0
    if (
      trigger.type !== type || trigger.conditional || trigger.foreign || trigger.body !== hash ||
      (isListed && !(list.length === columnList.length && columnList.every(column => list.includes(column))))
    ) return `A trigger that announces changes of ${table} is not as it was installed`
    if (isListed && unseen.length > 0) return `The trigger ${JSON.stringify(unseen[0])} may change what is watched of ${table} where an update does not say so, which is not announced`
  }
  return null
}
