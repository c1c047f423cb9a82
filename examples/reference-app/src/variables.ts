import { describe, maxDelayMs, oneOf, rule, type OptionRule } from '@orientor/session-contract/core'
import { asymmetricAlgorithms } from '@orientor/session-identity/core'
import { isWebhookSecret } from '@orientor/smart-sync/core'

/** One variable of the environment: what it must be, and a line to write. */
export interface Variable<T> {
  readonly rule: OptionRule<T>
  readonly example: string
}

const milliseconds = (min = 1): OptionRule<number> => wholeNumber(min, maxDelayMs, 'a whole number of milliseconds')
const seconds = (min: number, max: number): OptionRule<number> => wholeNumber(min, max, 'a whole number of seconds')

/**
 * Every variable that the app reads, by its name. Variables that are left out keep the default of the plugin they belong to,
 * which `.env.example` names.
 */
export const variables = {
  HOST: variable(rule('a host name or an address', matching(/^[\w.:-]+$/)), '127.0.0.1'),
  PORT: variable(wholeNumber(0, 65_535), '3000'),
  LOG_LEVEL: variable(oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']), 'info'),

  DATABASE_URL: variable(postgresUrl(), 'postgres://user:password@127.0.0.1:5432/orientor'),
  PG_PRESET: variable(oneOf(['auto', 'base', 'railway', 'production', 'development']), 'production'),
  RAILWAY_POOL_SIZE: variable(wholeNumber(1, 1000), '3'),
  RAILWAY_MAX_OVERFLOW: variable(wholeNumber(0, 1000), '7'),
  RAILWAY_POOL_TIMEOUT: variable(seconds(1, 600), '20'),
  PRODUCTION_POOL_SIZE: variable(wholeNumber(1, 1000), '8'),
  PRODUCTION_MAX_OVERFLOW: variable(wholeNumber(0, 1000), '15'),
  PRODUCTION_POOL_RECYCLE: variable(seconds(60, 604_800), '7200'),
  DEV_POOL_SIZE: variable(wholeNumber(1, 1000), '3'),
  DEV_MAX_OVERFLOW: variable(wholeNumber(0, 1000), '5'),
  DEV_ECHO_SQL: variable(oneOf(['true', 'false']), 'false'),

  ISSUER: variable(webUrl(), 'https://clerk.example.com'),
  JWKS_URL: variable(webUrl(), 'https://clerk.example.com/.well-known/jwks.json'),
  AUDIENCE: variable(list('values', matching(/^\S+$/)), 'https://api.example.com'),
  AUTHORIZED_PARTIES: variable(list('origins or client ids', party), 'https://app.example.com,http://localhost:5173'),
  ALGORITHMS: variable(list('algorithms', text => asymmetricAlgorithms.find(known => known === text)), 'RS256,ES256'),
  CLERK_API_URL: variable(webUrl('without /v1', path => !/\/v1\/?$/.test(path)), 'https://api.clerk.com'),
  CLERK_SECRET_KEY: variable(rule('a secret key of Clerk, which begins with "sk_"', matching(/^sk_\S+$/), { secret: true }), 'sk_live_…'),
  CLERK_WEBHOOK_SECRETS: variable(webhookSecrets(), 'whsec_…'),
  CLERK_INSTANCE_ID: variable(rule('the id of an instance of Clerk: "ins_", letters, digits', matching(/^ins_\w+$/)), 'ins_…'),

  MAX_STALENESS_MS: variable(milliseconds(), '5000'),
  POLL_INTERVAL_MS: variable(milliseconds(20), '200'),
  POLL_TIMEOUT_MS: variable(milliseconds(), '2000'),
  BELL_URL: variable(bellUrl(), 'redis://127.0.0.1:6379'),
  STALE_IF_ERROR_MS: variable(milliseconds(0), '900000'),
  SESSION_EXPIRE_AFTER_MS: variable(milliseconds(), '900000'),
  SESSION_MAX_ENTRIES: variable(wholeNumber(1, 10_000_000), '10000'),
  SESSION_CLEANUP_INTERVAL_MS: variable(milliseconds(), '300000'),
  FORCE_SYNC_AFTER_MS: variable(milliseconds(), '3600000'),

  ADMIN_KEY: variable(rule('at least 32 visible ASCII characters', matching(/^[\x21-\x7e]{32,}$/), { secret: true }), 'the output of "openssl rand -hex 24"')
} as const satisfies Record<string, Variable<unknown>>

/**
 * Variables that earlier versions read. They are refused: a setting that has no effect any more would be overlooked.
 */
export const retired = {
  LISTEN_URL: 'changes are polled for over DATABASE_URL, past any pooler or through it',
  HEARTBEAT_INTERVAL_MS: 'POLL_INTERVAL_MS says how often changes are polled for',
  HEARTBEAT_TIMEOUT_MS: 'POLL_TIMEOUT_MS says how long a poll may take'
} as const satisfies Record<string, string>

export type VariableName = keyof typeof variables

/** The values by variable; undefined where the variable is left out. */
export type Values = { readonly [K in VariableName]: typeof variables[K] extends Variable<infer T> ? T | undefined : never }

/** What was received, in a few words; of a secret only its length. */
export function received (name: VariableName, value: string): string {
  return describe(value, variables[name].rule.secret)
}

function variable<T> (accepts: OptionRule<T>, example: string): Variable<T> {
  return { rule: accepts, example }
}

function matching (pattern: RegExp): (input: unknown) => string | undefined {
  return input => typeof input === 'string' && pattern.test(input) ? input : undefined
}

function wholeNumber (min: number, max: number, what = 'a whole number'): OptionRule<number> {
  return rule(`${what} from ${min} to ${max}`, input => {
    if (typeof input !== 'string' || !/^\d{1,12}$/.test(input)) return undefined
    const value = Number(input)
    return value >= min && value <= max ? value : undefined
  })
}

function list<T extends string> (what: string, accept: (input: unknown) => T | undefined): OptionRule<readonly T[]> {
  return rule(`a list of ${what}, separated by commas`, input => {
    if (typeof input !== 'string') return undefined
    const items = input.split(',').map(item => accept(item.trim()))
    return items.every(item => item !== undefined) ? items : undefined
  })
}

function webhookSecrets (): OptionRule<readonly string[]> {
  const what = 'signing secrets of webhooks, each "whsec_" and base64 of at least 24 bytes'
  const { must, accept } = list(what, input => isWebhookSecret(input) ? input : undefined)
  return rule(must, accept, { secret: true })
}

function postgresUrl (): OptionRule<string> {
  return rule('the URL of a PostgreSQL database, postgres://user:password@host:5432/database, with the special characters of user and password percent-encoded', input => {
    const url = parse(input)
    if (url === undefined || !['postgres:', 'postgresql:'].includes(url.protocol) || url.hash !== '') return undefined
    if (url.pathname.length < 2 || (url.hostname === '' && !url.searchParams.has('host'))) return undefined
    return decodes(url.username) && decodes(url.password) && decodes(url.pathname) ? input as string : undefined
  }, { secret: true })
}

function bellUrl (): OptionRule<string> {
  const postgres = postgresUrl()
  const must = `${postgres.must}, of a direct connection past any pooler; or redis://user:password@host:port (rediss:// for TLS)`
  return rule(must, input => {
    const url = parse(input)
    if (url === undefined || !['redis:', 'rediss:'].includes(url.protocol)) return postgres.accept(input)
    const isWhole = url.hostname !== '' && url.hash === '' && decodes(url.username) && decodes(url.password)
    return isWhole ? input as string : undefined
  }, { secret: true })
}

function webUrl (more = '', acceptsPath: (path: string) => boolean = () => true): OptionRule<string> {
  return rule(`an https:// URL without user, query and fragment (http:// on a loopback address only)${more === '' ? '' : `, ${more}`}`, input => {
    const url = parse(input)
    if (url === undefined || `${url.username}${url.password}${url.search}${url.hash}` !== '' || !acceptsPath(url.pathname)) return undefined
    return url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname)) ? input as string : undefined
  })
}

/** What `azp` holds: an origin without a path where it looks like a URL, else any client id. */
function party (input: unknown): string | undefined {
  if (typeof input !== 'string' || !/^[\x21-\x7e]+$/.test(input)) return undefined
  return !input.includes('://') || parse(input)?.origin === input ? input : undefined
}

function isLoopback (host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

function parse (input: unknown): URL | undefined {
  if (typeof input !== 'string' || /\s/.test(input)) return undefined
  try {
    return new URL(input)
  } catch {
    return undefined
  }
}

function decodes (part: string): boolean {
  try {
    decodeURIComponent(part)
    return true
  } catch {
    return false
  }
}
