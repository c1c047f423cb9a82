/** What is known of the age of a connection; all on the monotonic clock. */
export interface Proof {
  readonly bornAtMs: number
  readonly retireAtMs: number
  /** When the server last proved that it was there. */
  readonly provenAtMs: number
}

/** Part of the lifetime by which connections of one age are spread: 8 never come closer than 1 % of the lifetime. */
const recycleSpread = 0.25
/** Multiples of the golden ratio fill the unit interval evenly, however many are taken. */
const goldenRatio = 0.618_033_988_749_894_9
/** A statement may lie about the server, and one demotion, or one change of a table, is told by many. */
const newsPauseMs = 1000

/**
 * Judges which connections may be lent without asking the server: those that it answered on a moment ago, that are not too old, and that are not
 * older than the last sign that connections are being cut, fall silent, or lead to a server that is read-only now.
 */
export class ConnectionTrust {
  readonly #lifetimeMs: number
  readonly #idleMs: number
  readonly #phase: number
  #births = 0
  #suspectBeforeMs = -Infinity
  #demotedAtMs = -Infinity
  #outdatedAtMs = -Infinity

  /**
   * @param lifetimeMs - age at which a connection is replaced, spread downwards by up to a quarter
   * @param idleMs - for how long the last proof is good
   * @param phase - from 0 to 1: where the spread begins, so that processes differ
   */
  constructor (lifetimeMs: number, idleMs: number, phase: number) {
    this.#lifetimeMs = lifetimeMs
    this.#idleMs = idleMs
    this.#phase = phase
  }

  /** When a connection that is born now is to be replaced. */
  retirement (nowMs: number): number {
    return nowMs + this.#lifetimeMs * (1 - recycleSpread * ((this.#phase + this.#births++ * goldenRatio) % 1))
  }

  holds ({ provenAtMs, retireAtMs }: Proof, nowMs: number): boolean {
    return nowMs - provenAtMs < this.#idleMs && nowMs < retireAtMs && provenAtMs >= this.#suspectBeforeMs
  }

  /** From now on, who was not heard of since then has to prove itself. */
  suspect (sinceMs: number): void {
    this.#suspectBeforeMs = Math.max(this.#suspectBeforeMs, sinceMs)
  }

  /** The server is read-only now: who is older than this must be dialled again. False when that was known already. */
  demote (nowMs: number): boolean {
    if (nowMs - this.#demotedAtMs < newsPauseMs) return false
    this.#demotedAtMs = nowMs
    return true
  }

  /** What is prepared may not fit any more. False when that was known already. */
  outdate (nowMs: number): boolean {
    if (nowMs - this.#outdatedAtMs < newsPauseMs) return false
    this.#outdatedAtMs = nowMs
    return true
  }

  leadsToDemoted ({ bornAtMs }: Proof): boolean {
    return bornAtMs <= this.#demotedAtMs
  }
}
