/**
 * What a failure of the database means for whoever sent the statement:
 *
 * - `unsent`: nothing was sent (refused, not found, starting up, too many clients): always safe to send again
 * - `severed`: cut in flight, the outcome is unknown: safe to send again only when the statement is idempotent
 * - `aborted`: the transaction was rolled back (serialization, deadlock, lock timeout, cancel): run the whole transaction again
 * - `demoted`: the server is read-only now: send again on a new connection
 * - `exhausted`: the server is sick (disk, memory): back off
 * - `rejected`: our own fault (data, constraint, syntax, permission, protocol): never send again
 * - `unknown`: not a failure that the database or its driver is known to report
 *
 * Codes after PostgreSQL, Appendix A.
 */
export type DatabaseFailure = 'unsent' | 'severed' | 'aborted' | 'demoted' | 'exhausted' | 'rejected' | 'unknown'

const byCode: ReadonlyMap<string, DatabaseFailure> = new Map<string, DatabaseFailure>([
  ...each('unsent', ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT', '57P03', '53300', '08001', '08004']),
  ...each('severed', ['57P01', '57P02', '57P05', '25P03', '08000', '08003', '08006', '08007', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED']),
  ...each('aborted', ['40001', '40P01', '40003', '40000', '55P03', '57014']),
  ...each('demoted', ['25006']),
  ...each('exhausted', ['53000', '53100', '53200', '53400', '58000', '58030'])
])

const rejectedClasses = new Set(['22', '23', '28', '2F', '3D', '3F', '42', '44', '08P01', '0A', '25', '26', '34', '54'])

const byMessage: ReadonlyArray<readonly [RegExp, DatabaseFailure]> = [
  [/^timeout exceeded when trying to connect|^Connection terminated due to connection timeout|^Cannot use a pool after calling end/, 'unsent'],
  [/^Connection terminated|^Query read timeout|^Client has encountered a connection error|^Client was closed/, 'severed']
]

const classes: ReadonlySet<unknown> = new Set<DatabaseFailure>(['unsent', 'severed', 'aborted', 'demoted', 'exhausted', 'rejected', 'unknown'])

/**
 * Classifies what a Postgres driver threw: by its own `databaseFailure` property when it has one (an error made by a pool that knows better),
 * else by SQLSTATE or system error code, else by the texts that node-postgres gives no code.
 */
export function databaseFailureOf (error: unknown): DatabaseFailure {
  if (typeof error !== 'object' || error === null) return 'unknown'
  const { databaseFailure, code, message } = error as { databaseFailure?: unknown, code?: unknown, message?: unknown }
  if (classes.has(databaseFailure)) return databaseFailure as DatabaseFailure
  if (typeof code === 'string') {
    const known = byCode.get(code)
    if (known !== undefined) return known
    if (/^[0-9A-Z]{5}$/.test(code) && (rejectedClasses.has(code.slice(0, 2)) || rejectedClasses.has(code))) return 'rejected'
  }
  if (typeof message === 'string') {
    for (const [pattern, failure] of byMessage) if (pattern.test(message)) return failure
  }
  return 'unknown'
}

/** Whether the failure passes by itself and says nothing about the statement: the service is not to be had right now. */
export function isOutage (failure: DatabaseFailure): boolean {
  return failure === 'unsent' || failure === 'severed' || failure === 'demoted' || failure === 'exhausted'
}

function each (failure: DatabaseFailure, codes: readonly string[]): ReadonlyArray<readonly [string, DatabaseFailure]> {
  return codes.map(code => [code, failure] as const)
}
