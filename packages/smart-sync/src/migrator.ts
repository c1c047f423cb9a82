import { asSent, sqlLiteral, type ClientLike } from '@orientor/session-contract/core'
import Postgrator from 'postgrator'
import { readFacts } from './inspect.js'
import { filledScript, needsFacts, scriptPattern } from './migration-scripts.js'
import { bareTable, quotedTable } from './table-names.js'
import type { UsersTable } from './users-table.js'

/**
 * A postgrator that runs the migration scripts of a users table on a connection. migrate() makes the table of versions,
 * and this names it in the statements: postgrator would make its schema, and takes names apart at every point.
 */
export function migratorOn (client: ClientLike, table: UsersTable): Postgrator {
  const versions = quotedTable(table.tables.migrations)
  // A script answers with a list of results.
  const execute = async (text: string): Promise<{ rows: unknown[] }> => {
    return { rows: [...(await client.query({ text, types: asSent })).rows ?? []] }
  }
  const migrator = new Postgrator({
    driver: 'pg',
    migrationPattern: scriptPattern(),
    schemaTable: bareTable(table.tables.migrations),
    newline: 'LF',
    // Of what is filled in a checksum says nothing.
    validateChecksums: false,
    execQuery: execute,
    execSqlScript: async script => {
      await execute(filledScript(script, table, needsFacts(script) ? await readFacts(client, table) : null))
    }
  })
  const { commonClient } = migrator as Postgrator & { readonly commonClient: object }
  Object.assign(commonClient, {
    quotedSchemaTable: () => versions,
    getColumnsSql: () => 'SELECT attname AS column_name FROM pg_catalog.pg_attribute ' +
      `WHERE attrelid = pg_catalog.to_regclass(${sqlLiteral(versions)}) AND attnum > 0 AND NOT attisdropped`
  })
  return migrator
}
