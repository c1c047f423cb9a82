/**
 * The class of a database failure, which says what its sender may do next:
 *
 * - `unsent`: nothing was sent (refused, not found, starting up, too many clients): always safe to send again
 * - `severed`: cut in flight, the outcome is unknown: safe to send again only when the statement is idempotent
 * - `aborted`: the transaction was rolled back (serialization, deadlock, lock timeout, cancel): run all of it again
 * - `outdated`: the statement that was prepared under a name does not fit any more, or is not there; nothing ran:
 *   prepare it anew and send again
 * - `demoted`: the server is read-only now: send again on a new connection
 * - `exhausted`: the server is sick (disk, memory): back off
 * - `withdrawn`: PostgreSQL refuses what the app needs to work at all (login, database, certificate; for a statement of
 *   the source's own also privilege, table, column, schema): never send again, an operator has to mend it; the
 *   connection is as good as before
 * - `rejected`: the sender's own fault (data, constraint, syntax, protocol, any other permission): never send again
 * - `unknown`: not a failure that the database or its driver is known to report
 *
 * Codes after PostgreSQL, Appendix A.
 */
export type DatabaseFailure =
  'unsent' | 'severed' | 'aborted' | 'outdated' | 'demoted' | 'exhausted' | 'withdrawn' | 'rejected' | 'unknown'

/** The author of a statement that failed: `own` is a source that wrote the SQL itself, and knows what it names. */
export type StatementAuthor = 'any' | 'own'

/** The prepared statement is not there, or is there already. */
const misnamed = ['26000', '42P05'] as const

const byCode: ReadonlyMap<string, DatabaseFailure> = new Map<string, DatabaseFailure>([
  ...each('unsent', [
    'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT',
    '57P03', '53300', '08001', '08004'
  ]),
  ...each('severed', [
    '57P01', '57P02', '57P05', '25P03', '08000', '08003', '08006', '08007',
    'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED'
  ]),
  ...each('aborted', ['40001', '40P01', '40003', '40000', '55P03', '57014']),
  ...each('outdated', misnamed),
  ...each('demoted', ['25006']),
  ...each('exhausted', ['53000', '53100', '53200', '53400', '58000', '58030'])
])

const rejectedClasses = new Set([
  '22', '23', '28', '2F', '3D', '3F', '42', '44', '08P01', '0A', '25', '34', '54', '55'
])

const byMessage: ReadonlyArray<readonly [RegExp, DatabaseFailure]> = [
  [/^timeout exceeded when trying to connect|^Connection terminated due to connection timeout/, 'unsent'],
  [/^Cannot use a pool after calling end/, 'unsent'],
  [/^Connection terminated|^Query read timeout/, 'severed'],
  [/^Client has encountered a connection error|^Client was closed/, 'severed'],
  [/^The server does not support SSL connections|^SASL: /, 'withdrawn']
]

/** SQLSTATEs by which PostgreSQL refuses to begin a session. */
const refusedSessions = /^(?:28...|3D000|55000|42501)$/
/** SQLSTATEs of a missing privilege, table, column and schema: withdrawn where the SQL was right once. */
const refusedStatements: ReadonlySet<string> = new Set(['42501', '42P01', '42703', '3F000'])
/** Node.js's codes for a certificate that it does not accept, and for alerts of a server that does not accept ours. */
const refusedCertificates = /^(?:ERR_TLS_CERT_|ERR_SSL_\w*ALERT|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/
/** The files of PostgreSQL's source that begin a session: unlike the severity FATAL, they are never translated. */
const sessionSources = /^(?:postinit|miscinit|auth[\w-]*|hba|postmaster|backend_startup)\.c$/

/**
 * A context that says nothing but the parameters of the statement, as `log_parameter_max_length_on_error` has it for
 * every error: a list of quoted values, which may hold line breaks. The words around the list are translated; they are
 * on its line.
 */
const parameterList = /^[^\n'$]*\$1 = (?:NULL|(?:'[^']*')+)(?:, \$\d+ = (?:NULL|(?:'[^']*')+))*[^\n"'$]*$/

const classes: ReadonlySet<unknown> = new Set<DatabaseFailure>([
  'unsent', 'severed', 'aborted', 'outdated', 'demoted', 'exhausted', 'withdrawn', 'rejected', 'unknown'
])

/** The fields of an error that are read: its class, and those of PostgreSQL's "Error and Notice Message Fields". */
interface Fields {
  readonly databaseFailure?: unknown
  readonly code?: unknown
  readonly message?: unknown
  readonly severity?: unknown
  readonly where?: unknown
  readonly file?: unknown
  readonly routine?: unknown
}

/**
 * Classifies an error of a Postgres driver: by its own `databaseFailure` property when it has one (a pool that knows
 * better sets it), else by SQLSTATE or system error code, else by the texts that node-postgres gives no code.
 *
 * @param author - `own` for a statement that the source wrote itself. Default is `any`: where the app's statement names
 *   a table that is not there, the app is at fault
 */
export function databaseFailureOf (error: unknown, author: StatementAuthor = 'any'): DatabaseFailure {
  if (typeof error !== 'object' || error === null) return 'unknown'
  const fields = error as Fields
  const { databaseFailure, code, message } = fields
  if (classes.has(databaseFailure)) return databaseFailure as DatabaseFailure
  if (typeof code === 'string') {
    const known = byCode.get(code)
    if (known !== undefined) return known
    if (isChangedPlan(fields)) return 'outdated'
    if (refusedCertificates.test(code)) return 'withdrawn'
    if (endsSession(fields)) {
      if (refusedSessions.test(code)) return 'withdrawn'
      // A pooler has one code for all reasons to end a client; only a startup parameter that it refuses stays refused.
      if (code === '08P01' && fields.file === undefined && !/startup parameter/i.test(String(message))) return 'severed'
    } else if (author === 'own' && refusedStatements.has(code) && !isFromWithin(fields)) return 'withdrawn'
    const isSqlState = /^[0-9A-Z]{5}$/.test(code)
    if (isSqlState && (rejectedClasses.has(code.slice(0, 2)) || rejectedClasses.has(code))) return 'rejected'
  }
  if (typeof message === 'string') {
    for (const [pattern, failure] of byMessage) if (pattern.test(message)) return failure
  }
  return 'unknown'
}

const outages: ReadonlySet<DatabaseFailure> = new Set<DatabaseFailure>([
  'unsent', 'severed', 'demoted', 'exhausted', 'withdrawn'
])

/** Whether the failure says nothing about the statement: the database cannot be used right now. */
export function isOutage (failure: DatabaseFailure): boolean {
  return outages.has(failure)
}

/**
 * Whether a statement that was prepared before, and is executed again, may pass when it is prepared anew: its plan is
 * `outdated`, or the types that its parameters were given then have no operator (42883) or assignment (42804) any more,
 * as after `ALTER COLUMN … TYPE text` of a uuid. Nothing ran. For a statement that is only being prepared both are
 * defects: ask only about one that a session had prepared.
 */
export function isPlanOutdated (error: unknown): boolean {
  if (databaseFailureOf(error) === 'outdated') return true
  const fields = (error ?? {}) as Fields
  return (fields.code === '42883' || fields.code === '42804') && !isFromWithin(fields)
}

/**
 * Whether the session does not hold what its client prepared under a name: a pooler gave out another session in
 * between, so that names are of no use.
 */
export function isMisnamed (error: unknown): boolean {
  return (misnamed as readonly unknown[]).includes((error as Fields | null | undefined)?.code)
}

/** "cached plan must not change result type", which PostgreSQL has no code of its own for, of the statement itself. */
function isChangedPlan (fields: Fields): boolean {
  const { code, message, routine } = fields
  if (code !== '0A000' || isFromWithin(fields)) return false
  return routine === 'RevalidateCachedQuery' || message === 'cached plan must not change result type'
}

function endsSession ({ severity, file }: Fields): boolean {
  return severity === 'FATAL' || (typeof file === 'string' && sessionSources.test(file))
}

/**
 * Whether the error arose in a function, trigger or policy that the statement only led to: those add lines of their own to
 * the context.
 */
function isFromWithin ({ where }: Fields): boolean {
  return typeof where === 'string' && where !== '' && !parameterList.test(where)
}

function each (failure: DatabaseFailure, codes: readonly string[]): ReadonlyArray<readonly [string, DatabaseFailure]> {
  return codes.map(code => [code, failure] as const)
}
