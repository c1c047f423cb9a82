import {
  callable, clockObject, flag, isName, maxNameBytes, objectWith, optional, readOptions, rule, systemClock, withDefault,
  type Clock, type OptionRules, type PoolLike, type WatchedTable
} from '@orientor/session-contract/core'
import type { Bell } from '../bell/bell.js'
import { checkPollTimes, pollTimeRules } from '../coherence/poll-times.js'
import { watchedTables } from '../coherence/watched-tables.js'
import { unfitForSchema } from './outbox-names.js'

/** Options of a bus over PostgreSQL. All times are milliseconds. */
export interface PostgresBusOptions {
  /** The pool by which polls are sent, of the primary. Default is the pool of `fastify.pg`. */
  readonly pool?: PoolLike
  /** The time between two polls, which a change takes at most without a bell. At least 20. Default is 200. */
  readonly pollIntervalMs?: number
  /** The time that a poll may take; an answer that comes later is not read. At least 1. Default is 2000. */
  readonly pollTimeoutMs?: number
  /**
   * B: the age that an unmarked user may have. Above pollIntervalMs + pollTimeoutMs; the rest is for loads. Default is
   * 5000.
   */
  readonly maxStalenessMs?: number
  /** The bell that tells instances of changes before they poll: postgresBell() or redisBell(). Default is none. */
  readonly bell?: Bell
  /**
   * The schema of the outbox: at most 63 bytes, without quotes, backslashes, dollar and at signs. Default is that of
   * the first watched table.
   */
  readonly schema?: string
  /**
   * Whether the outbox and its triggers are put in place, at the start and when they go missing. With false they have
   * to be there: see outboxSql(). Default is true.
   */
  readonly installTriggers?: boolean
  /**
   * Whether an update that sets none of the watched columns is spared the trigger (`UPDATE OF`), where no other trigger
   * may change them then. PostgreSQL refuses to drop a listed column, or to alter its type, as long as the trigger is
   * there; with false it does not, and every update costs. Default is true.
   */
  readonly columnLists?: boolean
  /**
   * The tables that are watched, where the source does not say, or says too little. Default is what the source says.
   */
  readonly watches?: readonly WatchedTable[]
  /** Time; the same as the cache's. Default is the clock of the process. */
  readonly clock?: Clock
  /** Chance, from 0 to below 1, for what instances should not do at the same time. Default is Math.random. */
  readonly random?: () => number
}

/** The name of the subpath, for messages. */
export const owner = '@orientor/session-cache/postgres'

/** The options whose default is known at the start only. */
type Absent = 'pool' | 'bell' | 'schema' | 'watches'

/** The options with every default in place. */
export interface PostgresBusSettings extends Required<Omit<PostgresBusOptions, Absent>> {
  /** null: that of the scope. */
  readonly pool: PoolLike | null
  readonly bell: Bell | null
  readonly schema: string | null
  /** null: what the source says. */
  readonly watches: readonly WatchedTable[] | null
}

type Input = { readonly [K in keyof PostgresBusOptions]-?: PostgresBusOptions[K] | undefined }

const rules: OptionRules<Input> = {
  pool: optional(objectWith<PoolLike>(
    'a pool of node-postgres: an object with query() and connect()', ['query', 'connect']
  )),
  ...pollTimeRules,
  bell: optional(objectWith<Bell>('a bell, such as postgresBell() makes', ['start', 'ring', 'status', 'close'])),
  schema: optional(rule(
    `the name of a schema, of at most ${maxNameBytes} bytes, without quotes, backslashes, dollar and at signs`,
    input => isName(input) && !unfitForSchema.test(input) ? input : undefined
  )),
  installTriggers: withDefault(flag, true),
  columnLists: withDefault(flag, true),
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
  checkPollTimes(owner, read)
  const { pool, bell, schema, watches } = read
  const absent = { pool: pool ?? null, bell: bell ?? null, schema: schema ?? null, watches: watches ?? null }
  return Object.freeze({ ...read, ...absent })
}
