import { received, retired, variables, type Values, type VariableName } from './variables.js'

/** What the app is told by its environment. Deep-frozen; undefined means "the default of the plugin". */
export interface Config {
  readonly host: string
  readonly port: number
  readonly logLevel: string | undefined
  /** null: the embedded PostgreSQL. */
  readonly databaseUrl: string | null
  readonly poolPreset: Values['PG_PRESET']
  /** The pool's own variables, as text and in seconds; already checked. And those that choose its preset. */
  readonly poolEnvironment: Readonly<Record<string, string>>
  /** null: the Clerk simulator. */
  readonly provider: ProviderConfig | null
  readonly cache: {
    readonly expireAfterMs: number | undefined
    readonly maxEntries: number | undefined
    readonly cleanupIntervalMs: number | undefined
    readonly staleIfErrorMs: number | undefined
  }
  readonly bus: {
    readonly maxStalenessMs: number | undefined
    readonly pollIntervalMs: number | undefined
    readonly pollTimeoutMs: number | undefined
  }
  /** Where instances tell each other of changes before they poll; null: nowhere. */
  readonly bellUrl: string | null
  readonly forceSyncAfterMs: number | undefined
  /** null: no admin routes (with the simulator the app makes a key of its own). */
  readonly adminKey: string | null
}

/** The identity provider. */
export interface ProviderConfig {
  readonly issuer: string
  readonly jwksUrl: string | undefined
  readonly audience: readonly string[] | undefined
  readonly authorizedParties: readonly string[] | undefined
  readonly algorithms: Values['ALGORITHMS']
  readonly apiUrl: string | undefined
  /** undefined: profiles come from the claims of the tokens. */
  readonly secretKey: string | undefined
  /** undefined: webhooks are not taken. */
  readonly webhookSecrets: readonly string[] | undefined
  /** The only instance of Clerk whose webhooks are taken. */
  readonly instanceId: string | undefined
}

/** The environment breaks rules; the message names every one that is broken. */
export class ConfigError extends Error {
  override readonly name: string = 'ConfigError'
  readonly problems: readonly string[]

  constructor (problems: readonly string[]) {
    super(`The configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${problems.map(problem => `  ${problem}`).join('\n')}`)
    this.problems = problems
  }
}

// Set by where the app runs; they choose the preset when PG_PRESET does not.
const placeVariables: readonly string[] = ['NODE_ENV', 'RAILWAY_ENVIRONMENT']
const poolVariables: readonly string[] = [
  'RAILWAY_POOL_SIZE', 'RAILWAY_MAX_OVERFLOW', 'RAILWAY_POOL_TIMEOUT', 'PRODUCTION_POOL_SIZE', 'PRODUCTION_MAX_OVERFLOW',
  'PRODUCTION_POOL_RECYCLE', 'DEV_POOL_SIZE', 'DEV_MAX_OVERFLOW', 'DEV_ECHO_SQL', ...placeVariables
]
const providerVariables: readonly VariableName[] = [
  'JWKS_URL', 'AUDIENCE', 'AUTHORIZED_PARTIES', 'ALGORITHMS',
  'CLERK_API_URL', 'CLERK_SECRET_KEY', 'CLERK_WEBHOOK_SECRETS', 'CLERK_INSTANCE_ID'
]

/** Variables that have no effect without another one, and why. */
const needs: ReadonlyArray<readonly [name: VariableName, needed: VariableName, why: string]> = [
  ['CLERK_API_URL', 'CLERK_SECRET_KEY', 'the API answers to its key only'],
  ['CLERK_INSTANCE_ID', 'CLERK_WEBHOOK_SECRETS', 'it says whose webhooks are taken']
]

/**
 * Reads the environment.
 *
 * @throws ConfigError with all problems at once: the variable, its rule, what was received (of a secret only the length), what to write
 */
export function readConfig (environment: Readonly<Record<string, string | undefined>>): Config {
  const problems: string[] = []
  for (const [name, instead] of Object.entries(retired)) {
    if (environment[name] !== undefined) problems.push(`${name} is not read any more: ${instead}. Remove it.`)
  }
  const values = readValues(environment, problems)
  if (environment['ISSUER'] === undefined) {
    for (const name of providerVariables) {
      if (environment[name] !== undefined) problems.push(`${name} is set but ISSUER is not: without ISSUER the app starts its own simulated provider. Set ISSUER too, or remove ${name}.`)
    }
  } else {
    for (const [name, needed, why] of needs) {
      if (environment[name] === undefined || environment[needed] !== undefined) continue
      const mend = `Write for example ${needed}=${variables[needed].example}, or remove ${name}.`
      problems.push(`${name} is set but ${needed} is not: ${why}. ${mend}`)
    }
  }
  if (problems.length > 0) throw new ConfigError(problems)

  return Object.freeze({
    host: values.HOST ?? '127.0.0.1',
    port: values.PORT ?? 3000,
    logLevel: values.LOG_LEVEL,
    databaseUrl: values.DATABASE_URL ?? null,
    poolPreset: values.PG_PRESET,
    poolEnvironment: Object.freeze(Object.fromEntries(poolVariables.flatMap(name => {
      const value = environment[name]
      return value === undefined ? [] : [[name, value]]
    }))),
    provider: values.ISSUER === undefined
      ? null
      : Object.freeze({
        issuer: values.ISSUER,
        jwksUrl: values.JWKS_URL,
        audience: values.AUDIENCE,
        authorizedParties: values.AUTHORIZED_PARTIES,
        algorithms: values.ALGORITHMS,
        apiUrl: values.CLERK_API_URL,
        secretKey: values.CLERK_SECRET_KEY,
        webhookSecrets: values.CLERK_WEBHOOK_SECRETS,
        instanceId: values.CLERK_INSTANCE_ID
      }),
    cache: Object.freeze({
      expireAfterMs: values.SESSION_EXPIRE_AFTER_MS,
      maxEntries: values.SESSION_MAX_ENTRIES,
      cleanupIntervalMs: values.SESSION_CLEANUP_INTERVAL_MS,
      staleIfErrorMs: values.STALE_IF_ERROR_MS
    }),
    bus: Object.freeze({
      maxStalenessMs: values.MAX_STALENESS_MS,
      pollIntervalMs: values.POLL_INTERVAL_MS,
      pollTimeoutMs: values.POLL_TIMEOUT_MS
    }),
    bellUrl: values.BELL_URL ?? null,
    forceSyncAfterMs: values.FORCE_SYNC_AFTER_MS,
    adminKey: values.ADMIN_KEY ?? null
  })
}

function readValues (environment: Readonly<Record<string, string | undefined>>, problems: string[]): Values {
  const values: Partial<Record<VariableName, unknown>> = {}
  for (const name of Object.keys(variables) as VariableName[]) {
    const value = environment[name]
    if (value === undefined) continue
    const { rule, example } = variables[name]
    values[name] = rule.accept(value)
    if (values[name] === undefined) problems.push(`${name} must be ${rule.must}; received ${received(name, value)}. Write for example ${name}=${example}`)
  }
  return values as Values
}
