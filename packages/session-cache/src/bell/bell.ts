import type { BusNews } from '../coherence/invalidation-bus.js'

/** The state of a bell, for a health check and an administrator. */
export interface BellStatus {
  /** Whether rings are heard now, as far as the bell knows. */
  readonly connected: boolean
  /** The reason why it is connected or not, in one plain sentence; holds no secret. */
  readonly reason: string
}

/** The callbacks that a bell is given at its start. */
export interface BellStart {
  /**
   * Takes a message that some instance rang, this one included, or that a stranger put on the channel: read it with
   * ringOf().
   */
  readonly heard: (message: string) => void
  readonly report: (news: BusNews) => void
}

/**
 * Carries hints between the instances of a service: something changed, look. It proves nothing. A ring that is lost,
 * doubled or late costs latency only, since every instance polls. Every adapter passes the conformance suite
 * (`bellConformance`).
 */
export interface Bell {
  /** The name that logs give it: "postgres", "redis", "memory". */
  readonly name: string
  /**
   * Connects, and connects again whenever the connection is lost, until close(). Resolves when it is known whether the
   * first attempt succeeded, after a bounded time in any case; not being able to connect is no failure. Rejects when
   * the bell can never work.
   */
  start (start: BellStart): Promise<void>
  /**
   * Sends a message to all instances, this one included. At most `maxRingBytes`.
   *
   * @throws ORI_CACHE_BELL_UNAVAILABLE when it is not connected, behind, or the other side refuses; the instances will
   * see the change by polling
   */
  ring (message: string): Promise<void>
  status (): BellStatus
  /** Ends, within a bounded time, whatever the other side does. Nothing is heard or reported afterwards. */
  close (): Promise<void>
}
