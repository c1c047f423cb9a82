import { durationMs, invalidOption, withDefault, type OptionRules } from '@orientor/session-contract/core'

/** The three times of a lease, in milliseconds. */
export interface LeaseTimes {
  /** H: how often a heartbeat is sent. */
  readonly heartbeatIntervalMs: number
  /** T: how long a heartbeat, or a connection, may take before the line is cut. */
  readonly heartbeatTimeoutMs: number
  /** B: how old an unmarked user may be. Above H + T; the rest is for loads. */
  readonly maxStalenessMs: number
}

/** How the three times are read: by default 1000, 2000 and 5000. */
export const leaseTimeRules: OptionRules<LeaseTimes> = Object.freeze({
  heartbeatIntervalMs: withDefault(durationMs({ min: 200 }), 1000),
  heartbeatTimeoutMs: withDefault(durationMs(), 2000),
  maxStalenessMs: withDefault(durationMs(), 5000)
})

/** The times for a bound of two seconds, in milliseconds. They leave 800 for a load. */
export const strictTimes: LeaseTimes = Object.freeze({ heartbeatIntervalMs: 400, heartbeatTimeoutMs: 800, maxStalenessMs: 2000 })

/**
 * Refuses a bound that leaves no time for a load.
 *
 * @param owner - for the message
 * @throws ORI_CONTRACT_INVALID_OPTION with times that would hold
 */
export function checkLeaseTimes (owner: string, { heartbeatIntervalMs: h, heartbeatTimeoutMs: t, maxStalenessMs: b }: LeaseTimes): void {
  if (b > h + t) return
  throw invalidOption(owner, `option "maxStalenessMs" must be above heartbeatIntervalMs + heartbeatTimeoutMs (${h} + ${t}), and what is above is the time that a load may take; received ${b}. Write for example maxStalenessMs: ${h + t + Math.max(500, t)}, or for a bound of ${b} heartbeatIntervalMs: ${Math.max(200, Math.floor(b / 5))} and heartbeatTimeoutMs: ${Math.max(1, Math.floor(b * 0.4))}.`)
}
