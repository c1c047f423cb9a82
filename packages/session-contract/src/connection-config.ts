import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'

/** The configuration of a node-postgres client. */
export type ConnectionConfig = Readonly<Record<string, unknown>>

/**
 * A configuration that was read. `flaw` completes "The connection string …", `advice` is a sentence; neither holds the
 * string, or a password.
 */
export type ConnectionReading =
  | { readonly kind: 'read', readonly config: ConnectionConfig, readonly advice: string | null }
  | { readonly kind: 'refused', readonly flaw: string }

/** The parts of a connection string that a client takes, by node-postgres' names. */
const taken = [
  'user', 'password', 'host', 'port', 'database', 'ssl', 'sslnegotiation', 'options', 'application_name',
  'fallback_application_name', 'client_encoding', 'replication', 'binary', 'statement_timeout', 'lock_timeout',
  'idle_in_transaction_session_timeout', 'query_timeout'
] as const
const files = ['sslrootcert', 'sslcert', 'sslkey'] as const

/** A connection string that breaks a rule; the message completes "The connection string …". */
class Refused extends Error {}

/**
 * Reads a configuration that may hold a connection string. What is given beside the string counts: node-postgres would
 * let the string win, so that a password that is a function, or a certificate, would be ignored. `sslrootcert=system`
 * means the roots that Node.js trusts, as libpq has it.
 *
 * @param parse - has node-postgres read a connection string: the `connectionParameters` of a client. May throw
 */
export function readConnection (
  { connectionString, ...beside }: ConnectionConfig, parse: (connectionString: string) => object
): ConnectionReading {
  const given = Object.fromEntries(Object.entries(beside).filter(([, value]) => value !== undefined))
  if (connectionString === undefined) return { kind: 'read', config: given, advice: null }
  try {
    const text = String(connectionString)
    refuseText(text)
    const config: Record<string, unknown> = { ...fromString(text, parse), ...given }
    // Without one in the string the database is called as the user is.
    const namesDatabase = given['database'] !== undefined || /^[^?]*:\/\/[^/?]*\/[^?]/.test(text)
    if (given['user'] !== undefined && !namesDatabase) delete config['database']
    refusePairs(config, given)
    return { kind: 'read', config, advice: adviceOn(text) }
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    return { kind: 'refused', flaw: error.message }
  }
}

const encoding =
  'Special characters of user and password have to be percent-encoded ("#" is %23, "@" is %40, "/" is %2F, "?" is %3F).'

function refuseText (text: string): void {
  if (!/^(?:postgres(?:ql)?:\/\/|socket:|\/)/i.test(text)) {
    throw new Refused('does not begin with postgres:// or postgresql://. ' +
      'Write postgres://user:password@host:port/database.')
  }
  if (!/^postgres/i.test(text)) return
  if (/^[^?]*#/.test(text)) throw new Refused(`has a bare "#". ${encoding}`)
  const host = /^[^:]*:\/\/(?:[^/?]*@)?([^/?]*)/.exec(text)![1]!
  if (host.includes(',') || parameter(text, 'host')?.includes(',') === true) {
    throw new Refused('names several hosts. node-postgres connects to one: name that of the primary, or one address ' +
      'that leads to it (a proxy, a virtual address).')
  }
}

function fromString (text: string, parse: (connectionString: string) => object): ConnectionConfig {
  const isSystem = parameter(text, 'sslrootcert') === 'system'
  const mode = parameter(text, 'sslmode') ?? ''
  if (isSystem && /^(?:disable|no-verify)$/.test(mode)) {
    throw new Refused(`has sslrootcert=system and sslmode=${mode}, which exclude each other: roots are there to ` +
      'verify by. Write sslmode=verify-full.')
  }
  let parsed: Readonly<Record<string, unknown>>
  try {
    // As libpq: a string that names the roots of the system has the server verified by them.
    const asParsed = isSystem ? `${withoutParameters(text, ['sslrootcert', 'sslmode'])}&sslmode=verify-full` : text
    parsed = parse(asParsed) as Readonly<Record<string, unknown>>
  } catch (error) {
    refuseFiles(text)
    const { message } = error as { message?: unknown }
    // The texts of node-postgres about TLS hold nothing of the string but the value of a parameter; others may.
    const isAboutTls = typeof message === 'string' && /^(?:SECURITY WARNING|Invalid sslnegotiation|sslnegotiation=)/.test(message)
    if (isAboutTls && !mayHidePassword(text)) throw new Refused(`is refused by node-postgres: ${message.replace(/\.$/, '')}.`)
    throw new Refused(`cannot be parsed. ${encoding}`)
  }
  refuseCertificates(text, parsed['ssl'])
  const port = Number(parsed['port'])
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new Refused('has a port that is no number from 0 to 65535.')
  }
  const parts = taken.map(name => [name, parsed[name]] as const)
  return Object.fromEntries(parts.filter(([, value]) => value !== undefined && value !== null))
}

/** Refuses files that the string names and that cannot be read. */
function refuseFiles (text: string): void {
  for (const name of files) {
    const path = parameter(text, name)
    if (path === undefined || path === '') continue
    try {
      readFileSync(path)
    } catch (error) {
      throw new Refused(`names a file that cannot be read: ${shown(text, name)} (${codeOf(error)}). Put it there, let ` +
        'this process read it, or mend the path.')
    }
  }
}

/** Refuses files that the string names and that hold no certificate, or a key that does not fit. */
function refuseCertificates (text: string, ssl: unknown): void {
  if (typeof ssl !== 'object' || ssl === null) return
  // The key is not enumerable.
  const { ca, cert, key } = ssl as { readonly ca?: string, readonly cert?: string, readonly key?: string }
  if (parameter(text, 'sslrootcert') !== undefined && ca !== undefined && !isCertificate(ca)) {
    throw new Refused(`names a file that holds no certificate: ${shown(text, 'sslrootcert')}. It has to be PEM ` +
      '("-----BEGIN CERTIFICATE-----").')
  }
  if (cert === undefined && key === undefined) return
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    throw new Refused('names a certificate and a key that cannot be used: ' +
      `${shown(text, 'sslcert')}, ${shown(text, 'sslkey')} (${codeOf(error)}). Both have to be PEM, and belong together.`)
  }
}

function codeOf (error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}

function isCertificate (text: string): boolean {
  try {
    return new X509Certificate(text).subject !== null
  } catch {
    return false
  }
}

/** Refuses what the string and what stands beside it exclude of each other. */
function refusePairs (config: ConnectionConfig, given: ConnectionConfig): void {
  if (config['sslnegotiation'] === 'direct' && given['ssl'] === false) {
    throw new Refused('has sslnegotiation=direct, and "ssl" beside it is false: they exclude each other. Give one of ' +
      'the two up.')
  }
}

/** The sentence about a parameter that node-postgres ignores; null when there is none. */
function adviceOn (text: string): string | null {
  const schema = parameter(text, 'schema')
  // Where the search path leads in any case.
  if (schema === undefined || schema === '' || schema === 'public') return null
  const path = `-c search_path=${mayHidePassword(text) ? 'its_value' : schema}`
  return 'The connection string has "schema", which Prisma reads and node-postgres does not: tables are looked for ' +
    `by the search path of the role. Write options=${encodeURIComponent(path)} in its place, ` +
    'or name the schema with the tables'
}

/** Whether what reads as parameters may be the rest of a password whose "?" is not encoded: an "@" that ends it comes later. */
function mayHidePassword (text: string): boolean {
  return /\?.*@/s.test(text)
}

/** A parameter as it may be told. */
function shown (text: string, name: string): string {
  return mayHidePassword(text) ? `${name}, whose value is not shown because of the "@" after it: if it is part of the password, write its "?" as %3F` : `${name}=${parameter(text, name)}`
}

function parameter (text: string, name: string): string | undefined {
  const query = /\?(.*)$/s.exec(text)?.[1]
  return query === undefined ? undefined : new URLSearchParams(query).getAll(name).at(-1)
}

function withoutParameters (text: string, names: readonly string[]): string {
  const [address, query = ''] = text.split(/\?(.*)/s) as [string, string | undefined]
  return `${address}?${query.split('&').filter(pair => !names.includes(pair.split('=')[0]!)).join('&')}`
}
