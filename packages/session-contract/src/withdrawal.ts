import { databaseFailureOf, type StatementAuthor } from './database-failure.js'

/** A refusal of PostgreSQL that lasts until an operator mends it, in words. */
export interface Withdrawal {
  /** SQLSTATE, or Node.js's code for a refused certificate; `SASL` or `TLS` where the driver gives no code. */
  readonly code: string
  /** The reason: part of a sentence, without names and values. */
  readonly reason: string
  /** The step by which the operator may mend it: one sentence, without a full stop. */
  readonly remedy: string
}

type Words = readonly [reason: string, remedy: string]

const sessions: Readonly<Record<string, Words>> = {
  '28P01': [
    'the password of the role is not accepted',
    'Give the connection the current password, or set the one it has with ALTER ROLE … PASSWORD'
  ],
  28000: ['the role may not log in', 'Let it in: ALTER ROLE … LOGIN, or a line for it in pg_hba.conf'],
  '3D000': ['the database does not exist', 'Create it, or mend its name in the connection string'],
  55000: ['the database takes no connections', 'Let them in: ALTER DATABASE … ALLOW_CONNECTIONS true'],
  42501: ['the role may not connect to the database', 'Let it in: GRANT CONNECT ON DATABASE … TO …']
}
const statements: Readonly<Record<string, Words>> = {
  42501: ['the role lacks a privilege', 'GRANT what the cause names to the role'],
  '42P01': [
    'a table is not there, or not on the search path',
    'Run the migrations, put the table back, or mend its name or the search path of the role'
  ],
  42703: ['a column is not there', 'Run the migrations, put the column back, or mend its name'],
  '3F000': ['a schema is not there', 'Put it back, or mend its name']
}
const certificate: Words = [
  'the certificate of the server, or ours, is not accepted',
  'Renew it, or give the certificate of who signed it as "ssl.ca" or "sslrootcert"'
]
const noTls: Words = ['the server speaks no TLS', 'Turn "ssl" on at the server, or write sslmode=disable']
const noPassword: Words = [
  'a password is wanted, and none that is a string was given',
  'Give one, or a function that answers with one'
]

/**
 * The failures of a login by SCRAM, by the texts of node-postgres, which gives them no codes. The last entry is for all
 * others.
 */
const logins: ReadonlyArray<readonly [RegExp, Words]> = [
  [/client password must be/, noPassword],
  [/mechanism/i, [
    'the server offers no way to log in that node-postgres takes',
    'Let the role in by scram-sha-256: password_encryption, and a line in pg_hba.conf'
  ]],
  [/signature|nonce/, [
    'the server did not prove that it knows the password of the role',
    'Look where the connection leads: another server, or something in between, may have answered'
  ]],
  [/^/, ['the server broke the rules of the login', 'Look where the connection leads, and at the cause']]
]

/** The most errors that are followed from one to its cause. */
const maxCauses = 5

/**
 * The refusal that a failure is, or that is the cause of one; null when there is none.
 *
 * @param author - as databaseFailureOf() takes it
 */
export function withdrawalOf (error: unknown, author: StatementAuthor = 'any'): Withdrawal | null {
  let failed: unknown = error
  for (let depth = 0; depth < maxCauses && typeof failed === 'object' && failed !== null; depth++) {
    if (databaseFailureOf(failed, author) === 'withdrawn') return told(failed)
    failed = (failed as { cause?: unknown }).cause
  }
  return null
}

function told (error: object): Withdrawal {
  const { code, message } = error as { code?: unknown, message?: unknown }
  if (typeof code !== 'string') {
    const text = String(message)
    if (!text.startsWith('SASL')) return withdrawal('TLS', noTls)
    return withdrawal('SASL', logins.find(([pattern]) => pattern.test(text))![1])
  }
  // Without an author only the beginning of a session counts as refused.
  const isSession = databaseFailureOf(error) === 'withdrawn'
  const byCode = (isSession ? sessions : statements)[code]
  return withdrawal(code, byCode ?? (code.startsWith('28') ? sessions['28000']! : certificate))
}

function withdrawal (code: string, [reason, remedy]: Words): Withdrawal {
  return Object.freeze({ code, reason, remedy })
}
