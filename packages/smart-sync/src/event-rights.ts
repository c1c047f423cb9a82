import { asSent, sqlLiteral, quotedName, type Queryable } from '@orientor/session-contract/core'
import type { Flaw } from './adoption.js'
import { quotedTable } from './table-names.js'
import type { DeletionPolicy } from './user-store.js'
import type { UsersTable } from './users-table.js'

/** The events of the provider that a role is to store. */
export interface StoredEvents {
  readonly deletionPolicy: DeletionPolicy
}

/**
 * The flaws that keep the role from storing events of the provider: deletions, sessions that are over, dead letters. Reads
 * the catalogue only.
 */
export async function eventFlaws (
  on: Queryable, table: UsersTable, { deletionPolicy }: StoredEvents
): Promise<readonly Flaw[]> {
  const { tables: { users, tombstones, deadLetters }, columns: { deletedAt, revokedSessions }, createUsers } = table
  const columns = [
    ['UPDATE', deletedAt], ['UPDATE', revokedSessions], ...createUsers ? [['INSERT', revokedSessions]] as const : []
  ] as const
  const relations = [
    ['INSERT', tombstones], ['INSERT', deadLetters], ...deletionPolicy === 'delete' ? [['DELETE', users]] as const : []
  ] as const
  const rows = [
    ...columns.map(([privilege, column]) => valuesOf(privilege, users, sqlLiteral(column))),
    ...relations.map(([privilege, relation]) => valuesOf(privilege, relation, 'NULL'))
  ]
  const { rows: missing } = await on.query({
    text: `SELECT v.privilege, v.relation, v.column_name AS "column"
FROM (VALUES ${rows.join(', ')}) AS v(privilege, relation, column_name)
WHERE NOT coalesce(CASE WHEN v.column_name IS NULL
  THEN pg_catalog.has_table_privilege(pg_catalog.to_regclass(v.relation), v.privilege)
  ELSE pg_catalog.has_column_privilege(pg_catalog.to_regclass(v.relation), v.column_name, v.privilege) END, false)`,
    types: asSent
  })
  const { rows: [received] } = await on.query({
    text: `SELECT FROM pg_catalog.pg_attribute WHERE attname = 'received' AND NOT attisdropped
AND attrelid = pg_catalog.to_regclass(${sqlLiteral(quotedTable(deadLetters))})`
  })
  if (received === undefined) {
    const what = `dead letters cannot be kept: the table ${quotedTable(deadLetters)} is not as this version needs it`
    return [{ what, remedy: 'Run migrate() as the owner of the tables' }]
  }
  return missing.map(({ privilege, relation, column }) => {
    const of = column === null ? '' : ` (${quotedName(String(column))})`
    const what = `${String(privilege)}${of} ON ${String(relation)}`
    return {
      what: `events of the provider cannot all be stored: the role may not ${what.replace(' ON ', ' on ')}`,
      remedy: `GRANT ${what} TO …`
    }
  })
}

function valuesOf (privilege: string, relation: string, column: string): string {
  return `(${sqlLiteral(privilege)}, ${sqlLiteral(quotedTable(relation))}, ${column}::text)`
}
