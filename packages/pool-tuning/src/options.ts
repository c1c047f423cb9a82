import type pg from 'pg'
import {
  callable, describe, durationMs, flag, integer, invalidOption, maxDelayMs, oneOf, optional, readOptions, rule, secretText, withDefault,
  type OptionRule, type OptionRules
} from '@orientor/session-contract/core'
import { refuseForeign } from './foreign-options.js'
import { detectPreset, presetEnvironment, presets, presetSettings, type Environment, type PresetName, type PresetValues } from './presets.js'
import { defaultSessionSettings, type Delivery, type SessionSettings } from './session-settings.js'

/** Options of the plugin. Durations are in milliseconds; what is left out comes from the environment, the preset or the default, in this order. */
export interface PoolTuningOptions {
  /** `postgres://user:password@host:port/database`. Default: what `client` and the PG* variables say. Never shown. */
  readonly connectionString?: string
  /** Configuration of pg's client: `host`, `ssl`, `password`, `statement_timeout` … What it sets wins over the connection string and over `settings`. */
  readonly client?: pg.ClientConfig
  /** The set of figures to begin with. Default is `auto`: `railway` where RAILWAY_ENVIRONMENT is set, else by NODE_ENV, else `base`. */
  readonly preset?: PresetName | 'auto'
  /** Where variables are read. Default is `process.env`. */
  readonly environment?: Environment
  /** Connections that are kept once opened. Integer from 1 to 1000. */
  readonly size?: number
  /** Connections above `size` while there is need. Integer from 0 to 1000. */
  readonly overflow?: number
  /** One limit for queue, connect, hooks and ping of a checkout. 250 or more. */
  readonly timeoutMs?: number
  /** Limit for opening one connection, hooks included. 100 or more, default 5000. */
  readonly connectTimeoutMs?: number
  /** Age at which a connection is replaced, spread downwards by up to a quarter. 60000 or more. */
  readonly recycleMs?: number
  /** Idle time after which a connection is pinged before it is lent. Default 1000; 0 pings always. */
  readonly pingAfterIdleMs?: number
  /** Limit of that ping. 10 or more, default 250. */
  readonly pingTimeoutMs?: number
  /** Limit for the answer and the reset of a connection that comes back. 10 or more, default 1000. */
  readonly resetTimeoutMs?: number
  /** Idle time after which a connection above `size` is closed. Default 5000. */
  readonly overflowIdleMs?: number
  /** Connections that are opened at ready and kept open. Integer from 0 to `size`, default 1. */
  readonly minConnections?: number
  /** Connections that are opened at the same time. Integer from 1 to 100, default 4. */
  readonly connectRamp?: number
  /** What ends the transaction that a connection comes back with; `discard` also forgets the session state at every return. Default is `rollback`. */
  readonly resetOnReturn?: 'rollback' | 'commit' | 'discard'
  /**
   * Session settings by their names in PostgreSQL, merged over the defaults; null leaves one to the server. Those of the planner (`effective_cache_size`, `random_page_cost`) have
   * defaults with the preset `railway` only, and never replace what an operator set at the server.
   */
  readonly settings?: Partial<SessionSettings>
  /** How settings reach the session. Default is `auto`. */
  readonly delivery?: Delivery
  /** Work on every new connection before it is lent, inside `connectTimeoutMs`. A rejection gives the connection up. */
  readonly onConnect?: (client: pg.Client) => Promise<void>
  /** Sendings of a statement in all, for failures of the connection and outdated plans only. Integer from 1 to 6, default 6; 1 never sends again. */
  readonly tries?: number
  /** Time that lent connections have to come back when the app closes. 0 to 9000, default 5000. */
  readonly drainMs?: number
  /** Whether an unreachable server fails the start. Default is false. */
  readonly failFast?: boolean
  /** Whether the text of statements is logged, never their values. */
  readonly echoSql?: boolean
  /** After how long a lent connection is logged with the place that took it; 0 for never. */
  readonly leakTraceAfterMs?: number
}

/** Where a value comes from: `option`, `environment NAME`, `preset NAME` or `default`. */
export type Origin = string

/** Options with every value settled. */
export interface ResolvedPoolOptions extends Required<Omit<PoolTuningOptions, 'connectionString' | 'onConnect' | 'settings' | 'preset'>> {
  readonly preset: PresetName
  readonly settings: SessionSettings
  readonly onConnect: ((client: pg.Client) => Promise<void>) | undefined
  readonly origins: Readonly<Record<string, Origin>>
}

const object = <T extends object>(must: string): OptionRule<T> => rule(must, input => typeof input === 'object' && input !== null && !Array.isArray(input) ? input as T : undefined, { secret: true })
const presetKeys = ['size', 'overflow', 'timeoutMs', 'recycleMs', 'echoSql', 'leakTraceAfterMs'] as const

const rules: OptionRules<PoolTuningOptions> = {
  connectionString: optional(secretText),
  client: withDefault(object<pg.ClientConfig>('an object with the configuration of a pg client'), {}),
  preset: withDefault(oneOf(['auto', 'base', 'railway', 'production', 'development']), 'auto'),
  environment: optional(object<Environment>('an object of variables by name')),
  size: optional(integer({ min: 1, max: 1000 })),
  overflow: optional(integer({ min: 0, max: 1000 })),
  timeoutMs: optional(durationMs({ min: 250 })),
  connectTimeoutMs: withDefault(durationMs({ min: 100 }), 5000),
  recycleMs: optional(durationMs({ min: 60_000 })),
  pingAfterIdleMs: withDefault(durationMs({ min: 0 }), 1000),
  pingTimeoutMs: withDefault(durationMs({ min: 10 }), 250),
  resetTimeoutMs: withDefault(durationMs({ min: 10 }), 1000),
  overflowIdleMs: withDefault(durationMs({ min: 0 }), 5000),
  minConnections: optional(integer({ min: 0, max: 1000 })),
  connectRamp: withDefault(integer({ min: 1, max: 100 }), 4),
  resetOnReturn: withDefault(oneOf(['rollback', 'commit', 'discard']), 'rollback'),
  settings: withDefault(object<Partial<SessionSettings>>('an object of session settings by name'), {}),
  delivery: withDefault(oneOf(['auto', 'startup', 'set', 'transaction', 'role']), 'auto'),
  onConnect: optional(callable<(client: pg.Client) => Promise<void>>('(client) => Promise')),
  tries: withDefault(integer({ min: 1, max: 6 }), 6),
  drainMs: withDefault(durationMs({ min: 0, max: 9000 }), 5000),
  failFast: withDefault(flag, false),
  echoSql: optional(flag),
  leakTraceAfterMs: optional(durationMs({ min: 0 }))
}

const timeoutMs: OptionRule<number> = { ...durationMs({ min: 0 }), must: `a whole number of milliseconds from 100 to ${maxDelayMs}, or 0 for no limit`, accept: input => typeof input === 'number' && Number.isInteger(input) && (input === 0 || (input >= 100 && input <= maxDelayMs)) ? input : undefined }
const orServer = <T>(inner: OptionRule<T>, fallback: T | null): OptionRule<T | null> => ({ ...inner, must: `${inner.must}, or null to leave it to the server`, fallback, required: false, accept: input => input === null ? null : inner.accept(input) })
const settingRules: OptionRules<SessionSettings> = {
  statement_timeout: orServer(timeoutMs, defaultSessionSettings.statement_timeout),
  lock_timeout: orServer(timeoutMs, defaultSessionSettings.lock_timeout),
  idle_in_transaction_session_timeout: orServer(timeoutMs, defaultSessionSettings.idle_in_transaction_session_timeout),
  effective_cache_size: orServer(rule('a size such as "256MB"', input => typeof input === 'string' && /^\d+(kB|MB|GB|TB)$/.test(input) ? input : undefined), defaultSessionSettings.effective_cache_size),
  random_page_cost: orServer(rule('a number from 0 to 100', input => typeof input === 'number' && input >= 0 && input <= 100 ? input : undefined), defaultSessionSettings.random_page_cost)
}

/** Smallest sensible duration in milliseconds: what is below was meant in seconds. */
const meantInSeconds: Readonly<Record<string, number>> = { timeoutMs: 250, recycleMs: 60_000, connectTimeoutMs: 100, statement_timeout: 100, lock_timeout: 100, idle_in_transaction_session_timeout: 100 }

/**
 * Settles every option: what is given, else what the environment says, else the preset, else the default.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION with what to write instead
 */
export function resolveOptions (input: unknown): ResolvedPoolOptions {
  const given = (typeof input === 'object' && input !== null ? input : {}) as Record<string, unknown>
  refuseForeign(given, '')
  if (typeof given['client'] === 'object' && given['client'] !== null) refuseForeign(given['client'] as Record<string, unknown>, 'client.')
  refuseSeconds(given)
  if (typeof given['settings'] === 'object' && given['settings'] !== null) refuseSeconds(given['settings'] as Record<string, unknown>)
  const { connectionString, ...read } = readOptions<PoolTuningOptions>('@orientor/pool-tuning', input, rules)
  const environment = read.environment ?? process.env
  const detected = read.preset === 'auto' ? detectPreset(environment) : { preset: read.preset!, origin: given['preset'] === undefined ? 'default' : 'option' }
  const { preset } = detected
  const settings = readOptions<SessionSettings>('pool-tuning, settings', { ...presetSettings[preset], ...withoutUndefined(read.settings!) }, settingRules)

  const origins: Record<string, Origin> = { preset: detected.origin }
  const fromEnvironment = presetEnvironment(preset, environment)
  const settled: Record<string, unknown> = {}
  for (const key of presetKeys) {
    const variable = fromEnvironment.get(key)
    settled[key] = read[key] ?? variable?.value ?? presets[preset][key]
    origins[key] = read[key] !== undefined ? 'option' : variable?.origin ?? `preset ${preset}`
  }
  for (const key of Object.keys(rules)) {
    if (origins[key] === undefined && key !== 'environment' && key !== 'client') origins[key] = given[key] === undefined ? 'default' : 'option'
  }
  const figures = settled as unknown as PresetValues
  const minConnections = read.minConnections ?? Math.min(1, figures.size)
  if (minConnections > figures.size) throw invalidOption('@orientor/pool-tuning', `option "minConnections" must not be above size (${figures.size}); received ${minConnections}. Raise size, or keep fewer connections open.`)
  const connectTimeoutMs = Math.min(read.connectTimeoutMs!, figures.timeoutMs)
  if (connectionString !== undefined && read.client!.connectionString !== undefined) {
    throw invalidOption('@orientor/pool-tuning', 'the options "connectionString" and "client.connectionString" exclude each other; received both. Give one of them up.')
  }
  const client = connectionString === undefined ? read.client! : { ...read.client, connectionString }
  // ResolvedPoolOptions has every key: those with a rule and a default, and those settled above.
  return Object.freeze({ ...read, ...figures, client, environment, preset, settings, minConnections, connectTimeoutMs, origins: Object.freeze(origins) }) as unknown as ResolvedPoolOptions
}

function withoutUndefined<T extends object> (settings: T): Partial<T> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as Partial<T>
}

function refuseSeconds (given: Readonly<Record<string, unknown>>): void {
  for (const [name, leastMs] of Object.entries(meantInSeconds)) {
    const value = given[name]
    if (typeof value !== 'number' || value <= 0 || value >= leastMs || !Number.isFinite(value)) continue
    throw invalidOption('@orientor/pool-tuning', `option "${name}" must be at least ${leastMs} milliseconds; received ${describe(value, false)}, which looks like seconds. For ${value} seconds write ${name}: ${Math.round(value * 1000)}.`)
  }
}
