import { createHash } from 'node:crypto'
import type { FoundTable } from '../sql/heartbeat.js'
import type { TableTriggers, TriggerSet } from '../sql/install-triggers.js'
import type { Finding } from './leased-trust.js'

const wantedTriggers = [{ suffix: '_row', type: 29 }, { suffix: '_truncate', type: 32 }]

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

function flawOf ({ table, name, body }: TableTriggers, { kind, triggers }: FoundTable): string | null {
  if (kind !== 'r' && kind !== 'p') return `${table} is, or is read with, something that is not a table, so that changes cannot be announced`
  const hash = createHash('md5').update(body).digest('hex')
  for (const { suffix, type } of wantedTriggers) {
    const trigger = triggers?.find(({ name: its }) => its === name + suffix)
    if (trigger === undefined) return `A trigger that announces changes of ${table} is missing`
    if (trigger.enabled !== 'A') return `A trigger that announces changes of ${table} is not enabled for all (ENABLE ALWAYS)`
    if (trigger.type !== type || trigger.narrowed || trigger.foreign || trigger.body !== hash) return `A trigger that announces changes of ${table} is not as it was installed`
  }
  return null
}
