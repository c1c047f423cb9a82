import { durationMs, invalidOption, withDefault, type OptionRules } from '@orientor/session-contract/core'

/** The three times of a polled bus, in milliseconds. */
export interface PollTimes {
  /** The time between two polls. */
  readonly pollIntervalMs: number
  /** The time that a poll may take; an answer that comes later is not read. */
  readonly pollTimeoutMs: number
  /** B: the age that an unmarked user may have. Above the sum of the others; the rest is for loads. */
  readonly maxStalenessMs: number
}

/** The rules for the three times: by default 200, 2000 and 5000. */
export const pollTimeRules: OptionRules<PollTimes> = Object.freeze({
  pollIntervalMs: withDefault(durationMs({ min: 20 }), 200),
  pollTimeoutMs: withDefault(durationMs(), 2000),
  maxStalenessMs: withDefault(durationMs(), 5000)
})

/** The times for a bound of two seconds, in milliseconds. They leave 1100 for a load. */
export const strictTimes: PollTimes = Object.freeze({ pollIntervalMs: 100, pollTimeoutMs: 800, maxStalenessMs: 2000 })

/**
 * Refuses a bound that leaves no time for a load.
 *
 * @param owner - for the message
 * @throws ORI_CONTRACT_INVALID_OPTION with times that would hold
 */
export function checkPollTimes (owner: string, times: PollTimes): void {
  const { pollIntervalMs: i, pollTimeoutMs: t, maxStalenessMs: b } = times
  if (b > i + t) return
  throw invalidOption(owner, 'option "maxStalenessMs" must be above pollIntervalMs + pollTimeoutMs ' +
    `(${i} + ${t}), and what is above is the time that a load may take; received ${b}. Write for example ` +
    `maxStalenessMs: ${i + t + Math.max(500, t)}, or for a bound of ${b} pollIntervalMs: ` +
    `${Math.max(20, Math.floor(b / 10))} and pollTimeoutMs: ${Math.max(1, Math.floor(b * 0.4))}.`)
}
