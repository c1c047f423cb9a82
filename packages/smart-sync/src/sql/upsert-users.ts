import { quotedName } from '@orientor/session-contract/core'
import type { Observation } from '../observation.js'
import { suppliedText } from '../supplied-text.js'
import { quotedTable } from '../table-names.js'
import { writtenColumns, writtenFields, type UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { keyList, writtenSubject } from './keys.js'
import { markGiven, markTaken, withMark } from './mark-of-write.js'
import { assignments, isNewsFor, observedRows, observedValues, type Incoming } from './observed-rows.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/**
 * Inserts or updates users whose observation is news, and answers with those. Rows are locked in the order given.
 * Columns that the app owns are named only where it supplies them for an insert; else that leaves them to their
 * defaults.
 *
 * @param hasBlanks - whether a subject may end in a blank; see writtenSubject()
 */
export function upsertUsers (table: UsersTable, types: ColumnTypes, hasBlanks: boolean): Statement {
  const { tables, columns, issuer, insert } = table
  const supplied = Object.keys(insert)
  const aliases = supplied.map((_, index) => `supplied_${index}`)
  const excluded = Object.fromEntries(writtenFields.map(field => {
    return [field, `excluded.${quotedName(columns[field])}`]
  })) as unknown as Incoming
  // In the order of writtenColumns().
  const values = [
    ...(typeof issuer === 'string' ? ['o.issuer'] : []), hasBlanks ? writtenSubject(table) : 'o.subject', 'o.email', 'o.first_name', 'o.last_name',
    'o.profile::jsonb', 'o.blocked', 'o.updated_at', 'o.fingerprint', '$10::timestamptz'
  ]
  const suppliedValues = supplied.map((name, index) => {
    const type = types.get(name)?.baseType
    return `o.${aliases[index]}${type === undefined ? '' : `::${type}`}`
  })
  return statement('upsert', `${withMark(table)}
INSERT INTO ${quotedTable(tables.users)} AS u
  (${[...writtenColumns(table), ...supplied].map(quotedName).join(', ')})
SELECT ${[...values, ...suppliedValues].join(', ')}
FROM ${markTaken}, ${observedRows(aliases)}
WHERE NOT EXISTS (
  SELECT FROM ${quotedTable(tables.tombstones)} AS t WHERE t.issuer = o.issuer AND t.clerk_user_id = o.subject
)
ORDER BY o.place
ON CONFLICT (${keyList(table)}) DO UPDATE SET
  ${assignments(table, excluded)}
WHERE ${isNewsFor(table, excluded)}
RETURNING ${userColumns(table, types, markGiven)}, (u.xmax = 0)::text AS created`)
}

/** The values of upsertUsers(). */
export function upsertValues (
  { insert }: UsersTable, observations: readonly Observation[], syncedAtMs: number | null
): unknown[] {
  const supplied = Object.entries(insert).map(([name, supply]) => observations.map(() => suppliedText(name, supply)))
  // Without suppliers these are the values of updateUsers() as well.
  return [...observedValues(observations, syncedAtMs), ...supplied]
}
