import type { Clock, PoolLike } from '@orientor/session-contract/core'
import type { Adoption } from './adoption.js'
import { eventFlaws, type StoredEvents } from './event-rights.js'
import { inspect } from './inspect.js'
import { runMigrations } from './migrate.js'
import type { UsersTable } from './users-table.js'

/** The result of a preparation: the tables as they were found, or made. */
export interface Preparation {
  /** null: the table could not be looked at yet. */
  readonly adoption: Adoption | null
  /**
   * The error that kept migrations or the judgement from being made, though users can be read; null: there was none.
   */
  readonly failure: unknown
}

/** Options of prepareTables(). */
export interface PrepareOptions {
  readonly pool: PoolLike
  readonly table: UsersTable
  /** Whether the tables are brought up to date. */
  readonly migrates: boolean
  /** The events that the role is to store; null: none. */
  readonly events: StoredEvents | null
  readonly clock: Clock
  readonly signal: AbortSignal
}

/**
 * Brings the tables up to date and judges them. A users table that cannot be written is completed all the same: its
 * users are served.
 *
 * Rejects as migrate() does, but only where no user could be read. With `migrates: false` it never rejects: then the
 * operator who made the tables answers for them.
 */
export async function prepareTables (
  { pool, table, migrates, events, clock, signal }: PrepareOptions
): Promise<Preparation> {
  try {
    const adoption = migrates
      ? (await runMigrations(pool, table, { isStrict: false, clock, signal })).adoption
      : await inspect(pool, table)
    if (adoption === null || events === null) return { adoption, failure: null }
    const warnings = [...adoption.warnings, ...await eventFlaws(pool, table, events)]
    return { adoption: { ...adoption, warnings }, failure: null }
  } catch (failure) {
    if (!migrates) return { adoption: null, failure }
    // Such as a role that may not alter the table, or a server that is read-only.
    const adoption = await inspect(pool, table).catch(() => null)
    if (adoption?.isReadable !== true) throw failure
    return { adoption, failure }
  }
}
