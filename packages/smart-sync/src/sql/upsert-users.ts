import { quotedName } from '@orientor/session-contract/core'
import type { Observation } from '../observation.js'
import { suppliedText } from '../supplied-text.js'
import { quotedTable } from '../table-names.js'
import type { UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { keyList, writtenPart } from './keys.js'
import { assignments, isNewsFor, observedRows, observedValues, type Incoming } from './observed-rows.js'
import { statement, type Statement } from './statement.js'
import { userColumns } from './user-row.js'

/**
 * Inserts or updates users whose observation is news, and answers with those. Rows are locked in the order given. Columns that the app owns are named only
 * where it supplies them for an insert; else that leaves them to their defaults.
 */
export function upsertUsers (table: UsersTable, types: ColumnTypes): Statement {
  const { tables, columns, issuer, subject, insert } = table
  const supplied = Object.keys(insert)
  const aliases = supplied.map((_, index) => `supplied_${index}`)
  const written = (['email', 'firstName', 'lastName', 'profile', 'blocked', 'providerUpdatedAt', 'fingerprint', 'lastSyncedAt'] as const).map(field => columns[field])
  const excluded = Object.fromEntries(Object.entries(columns).map(([field, column]) => [field, `excluded.${quotedName(column)}`])) as unknown as Incoming
  const values = [
    ...(typeof issuer === 'string' ? [writtenPart(table, issuer, 'o.issuer')] : []), writtenPart(table, subject, 'o.subject'), 'o.email', 'o.first_name', 'o.last_name', 'o.profile::jsonb', 'o.blocked', 'o.updated_at',
    'o.fingerprint', '$10::timestamptz', ...supplied.map((name, index) => `o.${aliases[index]}${types.has(name) ? `::${types.get(name)}` : ''}`)
  ]
  return statement('upsert', `INSERT INTO ${quotedTable(tables.users)} AS u
  (${[keyList(table), ...[...written, ...supplied].map(quotedName)].join(', ')})
SELECT ${values.join(', ')}
FROM ${observedRows(aliases)}
WHERE NOT EXISTS (SELECT FROM ${quotedTable(tables.tombstones)} AS t WHERE t.issuer = o.issuer AND t.clerk_user_id = o.subject)
ORDER BY o.place
ON CONFLICT (${keyList(table)}) DO UPDATE SET
  ${assignments(table, excluded)}
WHERE ${isNewsFor(table, excluded)}
RETURNING ${userColumns(table, types)}, (u.xmax = 0)::text AS created`)
}

/** The values of upsertUsers(). */
export function upsertValues ({ insert }: UsersTable, observations: readonly Observation[], syncedAtMs: number | null): unknown[] {
  const supplied = Object.entries(insert).map(([name, supply]) => observations.map(() => suppliedText(name, supply)))
  // Without suppliers these are the values of updateUsers() as well.
  return [...observedValues(observations, syncedAtMs), ...supplied]
}
