import type { Clock, PoolLike } from '@orientor/session-contract/core'
import type { Adoption } from './adoption.js'
import { inspect } from './inspect.js'
import { runMigrations } from './migrate.js'
import type { UsersTable } from './users-table.js'

/** How the tables are found at a start, or were put. */
export interface Preparation {
  /** null: the table could not be looked at yet. */
  readonly adoption: Adoption | null
  /** Why the migrations could not be run, or the table not be looked at, though users can be read; null when nothing went wrong. */
  readonly failure: unknown
}

/** What the preparation of a start needs. */
export interface PrepareOptions {
  readonly pool: PoolLike
  readonly table: UsersTable
  /** Whether the tables are brought up to date. */
  readonly migrates: boolean
  readonly clock: Clock
  readonly signal: AbortSignal
}

/**
 * Brings the tables up to date and judges them. A users table that cannot be written is completed all the same: its users are served.
 *
 * Rejects as migrate() does, but only where no user could be read. With `migrates: false` never: then whoever made the tables answers for them.
 */
export async function prepareTables ({ pool, table, migrates, clock, signal }: PrepareOptions): Promise<Preparation> {
  try {
    const adoption = migrates
      ? (await runMigrations(pool, table, { isStrict: false, clock, signal })).adoption
      : await inspect(pool, table)
    return { adoption, failure: null }
  } catch (failure) {
    if (!migrates) return { adoption: null, failure }
    // Such as a role that may not alter the table, or a server that is read-only.
    const adoption = await inspect(pool, table).catch(() => null)
    if (adoption?.isReadable !== true) throw failure
    return { adoption, failure }
  }
}
