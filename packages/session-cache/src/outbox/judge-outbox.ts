import { createHash } from 'node:crypto'
import { quotedName } from '@orientor/session-contract/core'
import { notingTriggers, type TableTriggers } from './noting-triggers.js'
import type { FoundTable, OutboxFacts } from './outbox-facts.js'
import { outboxFunctions } from './outbox-functions.js'
import { schemaToken, unfitForSchema } from './outbox-names.js'

/**
 * Judges an outbox, and what announces the changes of the watched tables. Pure.
 *
 * @param wanted - the triggers that have to note the changes of each watched table
 * @param schema - the schema of the outbox
 * @returns the first thing that is not in order, in one sentence; null: all is
 */
export function flawOfOutbox (
  wanted: readonly TableTriggers[], schema: string, { outbox, tables }: OutboxFacts
): string | null {
  for (const [index, triggers] of wanted.entries()) {
    if (tables?.some(({ place }) => place === index + 1) !== true) return `The table ${triggers.table} does not exist`
  }
  for (const found of tables ?? []) {
    const flaw = unnotable(wanted[found.place - 1]!, found)
    if (flaw !== null) return flaw
  }
  const flaw = flawOfTables(schema, outbox)
  if (flaw !== null) return flaw
  for (const found of tables ?? []) {
    const flaw = flawOfTriggers(wanted[found.place - 1]!, schema, found)
    if (flaw !== null) return flaw
  }
  return null
}

/** The flaw of the tables and functions of an outbox; null: none. */
function flawOfTables (schema: string, outbox: OutboxFacts['outbox']): string | null {
  const where = `in the schema ${quotedName(schema)}`
  if (outbox === null && unfitForSchema.test(schema)) {
    return `An outbox cannot be ${where}, for the quote, the backslash, the dollar or the at sign in its name. Give ` +
      'the option "schema"'
  }
  if (outbox === null) return `The outbox is not there, ${where}`
  if (!outbox.entitled) {
    return `The outbox ${where} belongs to the role ${quotedName(outbox.owner)}, which may not act for the owner of ` +
      'the watched table'
  }
  const [foreign] = outbox.foreignTables
  if (foreign !== undefined) {
    return `The table ${foreign} of the outbox belongs to another role than the rest, or has triggers, rules or ` +
      'row-level security'
  }
  const changed = Object.values(outboxFunctions)
    .find(({ name, body }) => outbox.functions?.[name] !== bodyHash(body, schema))
  if (changed === undefined) return null
  return `The function ${changed.name} of the outbox is missing, or is not as it was installed`
}

/** The reason why changes of a table cannot be noted, whatever is installed; null: they can. */
function unnotable ({ table, columns }: TableTriggers, { kind, computed }: FoundTable): string | null {
  if (kind !== 'r' && kind !== 'p') {
    return `${table} is, or is read with, something that is not a table, so that changes cannot be noted`
  }
  const invisible = columns.find(column => computed.includes(column))
  if (invisible !== undefined) {
    return `${JSON.stringify(invisible)} of ${table} is a virtual generated column, which triggers do not see. Watch ` +
      'the columns that it is computed from'
  }
  return null
}

/** The flaw of the triggers of a table; null: none. */
function flawOfTriggers (wanted: TableTriggers, schema: string, { unseen, triggers }: FoundTable): string | null {
  const { table, name, body, columnList } = wanted
  const noter = `A trigger that notes changes of ${table}`
  for (const { suffix, type } of Object.values(notingTriggers)) {
    const trigger = triggers?.find(({ name: its }) => its === name + suffix)
    if (trigger === undefined) return `${noter} is missing`
    if (trigger.enabled !== 'A') return `${noter} is not enabled for all (ENABLE ALWAYS)`
    const { columns: list } = trigger
    const isListed = list.length > 0
    if (
      trigger.type !== type || trigger.conditional || trigger.foreign || trigger.body !== bodyHash(body, schema) ||
      (isListed && !(list.length === columnList.length && columnList.every(column => list.includes(column))))
    ) return `${noter} is not as it was installed`
    if (isListed && unseen.length > 0) {
      return `The trigger ${JSON.stringify(unseen[0])} may change what is watched of ${table} where an update does ` +
        'not say so, which is not noted'
    }
  }
  return null
}

function bodyHash (body: string, schema: string): string {
  return createHash('md5').update(body.replaceAll(schemaToken, quotedName(schema))).digest('hex')
}
