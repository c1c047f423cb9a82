import { asSent, databaseFailureOf, quotedName, type Queryable } from '@orientor/session-contract/core'
import { judgeAdoption, type Adoption } from './adoption.js'
import { factsValues, tableFactsOf, tableFactsSql, type TableFacts } from './sql/table-facts.js'
import { quotedTable } from './table-names.js'
import type { UsersTable } from './users-table.js'

/** Describes the users table; null: there is none. Reads the catalogue only. */
export async function readFacts (on: Queryable, table: UsersTable): Promise<TableFacts | null> {
  const { rows } = await on.query({ text: tableFactsSql, values: factsValues(table), types: asSent })
  return tableFactsOf(rows)
}

/**
 * Judges the users table. Reads only. A look that takes too long is left out, but not where it is part of a transaction: that has failed then, whatever
 * is sent behind it.
 */
export async function inspect (on: Queryable, table: UsersTable, isInTransaction = false): Promise<Adoption> {
  const facts = await readFacts(on, table)
  const { isReadable } = judgeAdoption(table, facts, false)
  return judgeAdoption(table, facts, isReadable && await hasRowsWithoutIssuer(on, table, isInTransaction))
}

/** Whether rows name a subject and no issuer; false where finding out takes longer than a statement may. */
async function hasRowsWithoutIssuer (
  on: Queryable, { issuer, subject, tables }: UsersTable, isInTransaction: boolean
): Promise<boolean> {
  if (typeof issuer !== 'string') return false
  const isWithout = `${quotedName(issuer)} IS NULL AND ${quotedName(subject)} IS NOT NULL`
  const text = `SELECT FROM ${quotedTable(tables.users)} WHERE ${isWithout} LIMIT 1`
  try {
    return (await on.query({ text })).rows.length > 0
  } catch (error) {
    if (!isInTransaction && databaseFailureOf(error) === 'aborted') return false
    throw error
  }
}
