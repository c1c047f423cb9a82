import { createHash } from 'node:crypto'

/** The text that stands in SQL for the schema of the outbox, quoted, which is known only where that SQL runs. */
export const schemaToken = '@outbox@'

/**
 * The characters that the name of the schema of an outbox must not have: they would end what quotes it, or be a token.
 */
export const unfitForSchema: RegExp = /['\\$@]/

/** The beginning of the names of everything that belongs to an outbox. */
export const outboxPrefix = 'orientor_outbox_'

type TableName = 'changes' | 'mark' | 'horizon' | 'surveys' | 'instances' | 'relay'

/** The tables of an outbox, by what they are for. */
export const outboxTables: Readonly<Record<TableName, string>> = Object.freeze({
  changes: `${outboxPrefix}changes`,
  mark: `${outboxPrefix}mark`,
  horizon: `${outboxPrefix}horizon`,
  surveys: `${outboxPrefix}surveys`,
  instances: `${outboxPrefix}instances`,
  relay: `${outboxPrefix}relay`
})

/** SQL for a table of the outbox, before its schema is known. */
export function outboxTable (table: TableName): string {
  return `${schemaToken}.${outboxTables[table]}`
}

/** One function of an outbox. */
export interface OutboxFunction {
  /** Its name. It ends in a digest of what the function is, so that two versions of this package get along. */
  readonly name: string
  /** Its parameters, as they stand in CREATE FUNCTION. */
  readonly parameters: string
  readonly body: string
  readonly volatility: 'STABLE' | 'VOLATILE'
  /** Settings of its own, behind those that all of them have. */
  readonly settings: string
}

/** Describes a function; its body and parameters name tables by outboxTable(). */
export function outboxFunction (
  what: string, parameters: string, volatility: OutboxFunction['volatility'], body: string, settings: string = ''
): OutboxFunction {
  const digest = createHash('sha256').update(JSON.stringify([parameters, volatility, body, settings])).digest('hex')
  return { name: `${outboxPrefix}${what}_${digest.slice(0, 8)}`, parameters, body, volatility, settings }
}
