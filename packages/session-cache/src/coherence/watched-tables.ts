import { isName, maxNameBytes, rule, type OptionRule, type WatchedTable } from '@orientor/session-contract/core'

function isListOfNames (input: unknown): boolean {
  return Array.isArray(input) && input.every(isName)
}

function isWatchedTable (input: unknown): input is WatchedTable {
  if (typeof input !== 'object' || input === null) return false
  const given = input as Readonly<Record<string, unknown>>
  const { schema, table, issuer, subject, revision, columns, exactRevision, harmlessTriggers } = given
  return (schema === undefined || isName(schema)) && isName(table) && isName(subject) &&
    (revision === null || isName(revision)) &&
    (isName(issuer) || typeof (issuer as { always?: unknown } | null | undefined)?.always === 'string') &&
    isListOfNames(columns) && (exactRevision === undefined || typeof exactRevision === 'boolean') &&
    (harmlessTriggers === undefined || isListOfNames(harmlessTriggers))
}

/** The rule for the tables that are watched. */
export const watchedTables: OptionRule<readonly WatchedTable[]> = rule(
  'a list of tables { schema?, table, issuer, subject, revision, columns, exactRevision?, harmlessTriggers? }, ' +
  `each name a string of at most ${maxNameBytes} bytes`,
  input => Array.isArray(input) && input.every(isWatchedTable) ? input : undefined
)
