import {
  callable, clockObject, durationMs, rule, systemClock, withDefault, type Clock, type OptionRule, type OptionRules
} from '@orientor/session-contract/core'

/** The options that all bells over a network have. All times are milliseconds. */
export interface BellOptions {
  /**
   * The channel that rings are sent on; the same for all instances of a service. At most 63 letters, digits and
   * underscores, the first no digit. Default is `orientor_bell`.
   */
  readonly channel?: string
  /**
   * The time between two questions for a sign of life, by which a silent connection is found. At least 50. Default is
   * 10000.
   */
  readonly checkIntervalMs?: number
  /** The time that a connection, or a sign of life, may take. At least 1. Default is 2000. */
  readonly timeoutMs?: number
  /** Time. Default is the clock of the process. */
  readonly clock?: Clock
  /** Chance, from 0 to below 1, for the pauses between connections. Default is Math.random. */
  readonly random?: () => number
}

const channelName: OptionRule<string> = rule(
  'at most 63 letters, digits and underscores, the first no digit',
  input => typeof input === 'string' && /^[A-Za-z_][A-Za-z0-9_]{0,62}$/.test(input) ? input : undefined
)

/** The rules for these options. */
export const bellOptionRules: OptionRules<Required<BellOptions>> = Object.freeze({
  channel: withDefault(channelName, 'orientor_bell'),
  checkIntervalMs: withDefault(durationMs({ min: 50 }), 10_000),
  timeoutMs: withDefault(durationMs(), 2000),
  clock: withDefault(clockObject, systemClock),
  random: withDefault(callable<() => number>('() => number from 0 to below 1'), Math.random)
})
