import { startDeadline, withinDeadline, type Clock, type Timer, type UserChange } from '@orientor/session-contract/core'
import { messagesOf, pollRing } from './ring-message.js'

/** The changes that were committed since a position. */
export interface Tail {
  /** The position that the next question goes on from. */
  readonly position: string
  readonly changes: readonly UserChange[]
  /** Whether there was more than an answer holds, or the position was of no use, so that `changes` is not all. */
  readonly isCut: boolean
}

/**
 * The dependencies of a relay. Each call has to settle within a bounded time: while one does not, the relay rests, and
 * its lease ends.
 */
export interface RelayDeps {
  /** Takes the lease of the database for `relayLeaseMs`, or renews it; resolves with whether it is held now. */
  readonly lead: () => Promise<boolean>
  /** Asks for what was committed after a position; null: only where things stand. */
  readonly tail: (position: string | null) => Promise<Tail>
  readonly ring: (message: string) => Promise<void>
  /** Whether a ring can be heard; while not, the lease is left to an instance that can ring. Default is always. */
  readonly canRing?: () => boolean
  /** The time between two questions to the database while this instance leads, in milliseconds. */
  readonly relayIntervalMs: number
  readonly clock: Clock
  /** From 0 to below 1, for the pauses of instances that do not lead. */
  readonly random: () => number
  /** The number of instances, so that no more than ten try for the lease in a second. Default is 1. */
  readonly instances?: () => number
}

/** The time that a lease lasts from the sending of lead() on, in milliseconds. */
export const relayLeaseMs = 3000
/** The time between two attempts to renew a lease, or to get it, in milliseconds. */
const renewIntervalMs = 1000
const maxTriesPerS = 10
const closeTimeoutMs = 500

/**
 * The part of an instance that asks the database for changes at short intervals, and rings the bell when there are
 * some, while the instance holds the lease of the database. Two that believe they hold it, for as long as a lease
 * lasts, cost double rings and nothing else.
 *
 * One question is on its way at a time. A change that was read is rung once; where a ring fails it is told by `?` as
 * soon as one succeeds. After failures the intervals double, up to a second. What is committed while no instance leads
 * is not rung: the polls bring it.
 */
export class Relay {
  readonly #deps: RelayDeps
  #leadsUntilMs = -Infinity
  #renewAtMs = -Infinity
  #position: string | null = null
  /** Whether something was read that may not have been rung. */
  #owes = false
  #failures = 0
  #asks = 0
  #rings = 0
  #isClosed = false
  #next: Timer | null = null
  #turn: Promise<void> | null = null

  constructor (deps: RelayDeps) {
    this.#deps = deps
  }

  /** Whether this instance holds the lease, as far as it knows. */
  get leads (): boolean {
    return this.#deps.clock.monotonic() < this.#leadsUntilMs
  }

  /** Questions to the database so far. */
  get asks (): number {
    return this.#asks
  }

  /** Messages that it rang so far. */
  get rings (): number {
    return this.#rings
  }

  /** Begins. Again does nothing. */
  start (): void {
    if (this.#turn === null && !this.#isClosed) this.#turn = this.#takeTurn()
  }

  /**
   * Ends, after what is on its way or half a second. The lease is left to its end, or to be deleted in the database.
   */
  async close (): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#next?.cancel()
    const deadline = startDeadline(this.#deps.clock, closeTimeoutMs)
    await withinDeadline(Promise.resolve(this.#turn), deadline, 'The relay').catch(() => {})
    deadline.release()
    this.#leadsUntilMs = -Infinity
  }

  async #takeTurn (): Promise<void> {
    const { clock, canRing, relayIntervalMs, random, instances = () => 1 } = this.#deps
    const begunAtMs = clock.monotonic()
    if (canRing?.() ?? true) {
      if (begunAtMs >= this.#renewAtMs) await this.#renew(begunAtMs)
      if (this.leads || this.#owes) await this.#relay()
    }
    if (this.#isClosed) return
    const intervalMs = this.leads || this.#owes
      ? Math.min(renewIntervalMs, relayIntervalMs * 2 ** this.#failures)
      : renewIntervalMs * (1 + random() / 2) * Math.max(1, instances() / maxTriesPerS)
    const delayMs = Math.max(0, begunAtMs + intervalMs - clock.monotonic())
    this.#next = clock.setTimer(() => { this.#turn = this.#takeTurn() }, delayMs)
  }

  async #renew (sentAtMs: number): Promise<void> {
    const { lead } = this.#deps
    this.#renewAtMs = sentAtMs + renewIntervalMs
    let isHeld: boolean
    try {
      isHeld = await lead()
    } catch {
      // The lease stands until it ends.
      return
    }
    // Where it was not held in between, others have rung, or the polls bring it.
    if (!isHeld || !this.leads) this.#position = null
    this.#leadsUntilMs = isHeld ? sentAtMs + relayLeaseMs : -Infinity
  }

  async #relay (): Promise<void> {
    try {
      if (this.#owes) await this.#ring([pollRing])
      if (!this.leads) return
      this.#asks++
      const { position, changes, isCut } = await this.#deps.tail(this.#position)
      this.#position = position
      await this.#ring(isCut ? [pollRing] : messagesOf(changes))
      this.#failures = 0
    } catch {
      this.#failures++
    }
  }

  async #ring (messages: readonly string[]): Promise<void> {
    this.#owes ||= messages.length > 0
    for (const message of messages) {
      await this.#deps.ring(message)
      this.#rings++
    }
    this.#owes = false
  }
}
