import {
  callable, clockObject, flag, invalidOption, objectWith, optional, readOptions, rule, secretText, systemClock, withDefault,
  type Clock, type OptionRule, type OptionRules, type WatchedTable
} from '@orientor/session-contract/core'
import { readClientConfig } from './client-config.js'
import { checkLeaseTimes, leaseTimeRules } from './lease-times.js'
import { watchedTables } from './watched-tables.js'

/** Options of a bus over PostgreSQL. All times are milliseconds. */
export interface PostgresBusOptions {
  /** Connection string of a direct connection, past any pooler. This or `connection`. */
  readonly listenUrl?: string
  /** The same as the `Client` of node-postgres takes it; what stands beside a connection string in it counts. */
  readonly connection?: object
  /** H: how often a heartbeat is sent. Default is 1000. */
  readonly heartbeatIntervalMs?: number
  /** T: how long a heartbeat, or a connection, may take. Default is 2000. */
  readonly heartbeatTimeoutMs?: number
  /** B: how old an unmarked user may be. Above H + T; the rest is for loads. Default is 5000. */
  readonly maxStalenessMs?: number
  /** Where changes are announced; the same for all instances of a service. At most 63 letters, digits and underscores. Default is `orientor_user`. */
  readonly channel?: string
  /** What the connections are called, followed by a slash and the id of the triggers: by this the instances are counted. Default is `orientor-bus`. */
  readonly applicationName?: string
  /** Whether the triggers are put in place, at the start and when they go missing. With false they have to be there: see triggerSql(). Default is true. */
  readonly installTriggers?: boolean
  /**
   * Whether an update that sets none of the watched columns is spared the trigger (`UPDATE OF`), where no other trigger may change them then. PostgreSQL
   * refuses to drop a listed column, or to alter its type, as long as the trigger is there; with false it does not, and every update costs. Default is true.
   */
  readonly columnLists?: boolean
  /** What is watched, where the source does not say, or says too little. Default is what the source says. */
  readonly watches?: readonly WatchedTable[]
  /** Time; the same as the cache's. Default is the clock of the process. */
  readonly clock?: Clock
  /** Chance, from 0 to below 1, for the pauses between connections. Default is Math.random. */
  readonly random?: () => number
}

/** For messages. */
export const owner = '@orientor/session-cache/postgres'

/** The options with every default in place. */
export interface PostgresBusSettings extends Required<Omit<PostgresBusOptions, 'listenUrl' | 'connection' | 'watches'>> {
  readonly connection: object
  /** What the connection string says and node-postgres does not hear; null when there is no such thing. */
  readonly advice: string | null
  /** null: what the source says. */
  readonly watches: readonly WatchedTable[] | null
}

/** Defaults of the options that triggerSql() takes too. */
export const triggerDefaults = { channel: 'orientor_user', columnLists: true } as const

type Input = { readonly [K in keyof PostgresBusOptions]-?: PostgresBusOptions[K] | undefined }

const named = (mostLength: number, pattern: RegExp, what: string): OptionRule<string> => rule(`at most ${mostLength} ${what}`, input => {
  return typeof input === 'string' && input.length <= mostLength && pattern.test(input) ? input : undefined
})

const rules: OptionRules<Input> = {
  listenUrl: optional(secretText),
  connection: optional(objectWith<object>('the configuration of a client of node-postgres', [])),
  ...leaseTimeRules,
  channel: withDefault(named(63, /^[A-Za-z_][A-Za-z0-9_]*$/, 'letters, digits and underscores'), triggerDefaults.channel),
  applicationName: withDefault(named(40, /^[\w.-]+$/, 'letters, digits, underscores, points and hyphens'), 'orientor-bus'),
  installTriggers: withDefault(flag, true),
  columnLists: withDefault(flag, triggerDefaults.columnLists),
  watches: optional(watchedTables),
  clock: withDefault(clockObject, systemClock),
  random: withDefault(callable<() => number>('() => number from 0 to below 1'), Math.random)
}

/**
 * Reads the options: refuses unknown ones and times that cannot hold, sets the defaults.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveBusOptions (options: PostgresBusOptions): PostgresBusSettings {
  const read = readOptions<Input>(owner, options, rules) as Input & PostgresBusSettings
  if ((read.listenUrl === undefined) === (read.connection === undefined)) throw invalidOption(owner, 'give either "listenUrl" or "connection".')
  checkLeaseTimes(owner, read)
  const connection = read.connection ?? { connectionString: read.listenUrl! }
  const reading = readClientConfig(connection)
  if (reading.kind === 'refused') throw invalidOption(owner, `the connection string given as "${read.listenUrl === undefined ? 'connection' : 'listenUrl'}" ${reading.flaw}`)
  return Object.freeze({ ...read, connection, advice: reading.advice, watches: read.watches ?? null })
}
