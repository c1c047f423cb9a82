import type { Pool } from 'pg'

/** The parameters of a write: whose row, the name that it is given, and the version in that name. */
export type WriteValues = readonly [key: string, name: string, version: number]

/** A way to give a row its next version; resolves when that is committed, with how many rows it changed. */
export type Write = (pool: Pool, values: WriteValues) => Promise<number | null>

/** Writes with a statement that takes the values as $1 to $3. */
export function plainly (statement: string): Write {
  return async (pool, values) => (await pool.query(statement, [...values])).rowCount
}
