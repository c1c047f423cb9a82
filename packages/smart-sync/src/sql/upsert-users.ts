import { quotedName } from '@orientor/session-contract/core'
import { suppliedText } from '../supplied-text.js'
import { quotedTable } from '../table-names.js'
import type { UserUpdate } from '../user-update.js'
import { keyColumns, writtenColumns, writtenFields, type UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { endedValues } from './ended-sessions.js'
import { keyList, writtenSubject } from './keys.js'
import { markGiven, markTaken, withMark } from './mark-of-write.js'
import { assignments, isChangeFor, observedRows, observedValues, type Incoming } from './observed-rows.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/** The properties of updates that a statement must be made for. */
export interface UpdateTraits {
  /** Whether a subject may end in a blank; see writtenSubject(). */
  readonly hasBlanks: boolean
  /** Whether sessions may be over. */
  readonly endsSessions: boolean
  /** Whether the table has partitions, through which PostgreSQL does not tell whether a row was made or updated. */
  readonly isPartitioned: boolean
}

/**
 * Inserts or updates users for whom there is a change, and answers with those; takes upsertValues(). Rows are locked in
 * the order given. Columns that the app owns are named only where it supplies them for an insert; else that leaves them
 * to their defaults.
 *
 * Sent below the creation lock (beginCreation()), so that the tombstones that it sees are all there are.
 */
export function upsertUsers (
  table: UsersTable, types: ColumnTypes, { hasBlanks, endsSessions, isPartitioned }: UpdateTraits
): Statement {
  const { tables, columns, issuer, insert } = table
  const supplied = Object.keys(insert)
  const aliases = supplied.map((_, index) => `supplied_${index}`)
  const excluded = (field: keyof typeof columns): string => `excluded.${quotedName(columns[field])}`
  const incoming = {
    ...Object.fromEntries(writtenFields.map(field => [field, excluded(field)])),
    ...endsSessions ? { endedSessions: excluded('revokedSessions') } : {}
  } as unknown as Incoming
  // A row that the statement does not see was made by it, or by another since it began.
  const key = keyColumns(table).map(quotedName)
  const isUnseen = `NOT EXISTS (SELECT FROM ${quotedTable(tables.users)} AS b ` +
    `WHERE ${key.map(column => `b.${column} = u.${column}`).join(' AND ')})`
  const subject = hasBlanks ? writtenSubject(table) : 'o.subject'
  // In the order of writtenColumns().
  const values = [
    ...typeof issuer === 'string' ? ['o.issuer'] : [], subject, 'o.email', 'o.first_name', 'o.last_name',
    'o.profile::jsonb', 'o.blocked', 'o.updated_at', 'o.fingerprint',
    // Without a profile nothing was compared.
    'CASE WHEN o.fingerprint IS NOT NULL THEN $10::timestamptz END'
  ]
  const suppliedValues = supplied.map((name, index) => {
    const type = types.get(name)?.baseType
    return `o.${aliases[index]}${type === undefined ? '' : `::${type}`}`
  })
  const sessions = endsSessions ? [[columns.revokedSessions], ["coalesce(o.ended::jsonb, '{}')"]] as const : [[], []]
  const names = [...writtenColumns(table), ...supplied, ...sessions[0]]
  return statement('upsert', `${withMark(table)}
INSERT INTO ${quotedTable(tables.users)} AS u
  (${names.map(quotedName).join(', ')})
SELECT ${[...values, ...suppliedValues, ...sessions[1]].join(', ')}
FROM ${markTaken}, ${observedRows([...aliases, ...endsSessions ? ['ended'] : []])}
WHERE NOT EXISTS (
  SELECT FROM ${quotedTable(tables.tombstones)} AS t WHERE t.issuer = o.issuer AND t.clerk_user_id = o.subject
)
ORDER BY o.place
ON CONFLICT (${keyList(table)}) DO UPDATE SET
  ${assignments(table, incoming)}
WHERE ${isChangeFor(table, incoming)}
RETURNING ${userColumns(table, types, markGiven)}, (${isPartitioned ? isUnseen : 'u.xmax = 0'})::text AS created`)
}

/** The values of upsertUsers(). */
export function upsertValues (
  { insert }: UsersTable, updates: readonly UserUpdate[], syncedAtMs: number | null,
  { endsSessions }: Pick<UpdateTraits, 'endsSessions'>
): unknown[] {
  const supplied = Object.entries(insert).map(([name, supply]) => updates.map(() => suppliedText(name, supply)))
  return [...observedValues(updates, syncedAtMs), ...supplied, ...endedValues(updates, endsSessions)]
}
