import { databaseFailureOf, type DatabaseFailure } from '@orientor/session-contract/core'

/**
 * The judgement of a failure on the connection that it happened on:
 *
 * - `keep`: the server refused the statement; the session is as good as before
 * - `severed`: the connection was cut audibly; others may have been cut too
 * - `silent`: the server did not answer in time; nothing that is as old can be trusted
 * - `demoted`: the server is read-only now; every connection must be made anew
 * - `broken`: anything else; only this connection is given up
 */
export type ReleaseVerdict = 'keep' | 'severed' | 'silent' | 'demoted' | 'broken'

const keeping: ReadonlySet<DatabaseFailure> = new Set<DatabaseFailure>([
  'rejected', 'withdrawn', 'outdated', 'aborted', 'exhausted'
])
const silence = /^Query read timeout|^timeout expired/

/**
 * Judges an error by its class. A unique violation keeps its connection: with SQLSTATE and severity ERROR the server
 * itself says that the session goes on (PostgreSQL, protocol error fields), unless the code names a damaged session
 * (XX) or protocol (08).
 */
export function verdictOf (error: unknown): ReleaseVerdict {
  if (typeof error !== 'object' || error === null) return 'broken'
  const { code, message } = error as { code?: unknown, message?: unknown }
  const failure = databaseFailureOf(error)
  if (failure === 'demoted') return 'demoted'
  if (failure === 'severed' || failure === 'unsent') {
    return typeof message === 'string' && silence.test(message) ? 'silent' : 'severed'
  }
  if (code === '08P01') return 'broken'
  if (keeping.has(failure)) return 'keep'
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && !/^(XX|08|57P|F0)/.test(code) ? 'keep' : 'broken'
}
