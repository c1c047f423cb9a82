import { maxDelayMs, type Clock, type Deadline, type Timer } from '@orientor/session-contract/core'
import type { LookUpPriority } from '../identity-provider.js'

/** The most requests that are sent in any window of time. */
export interface QuotaLimits {
  readonly maxRequests: number
  /** Length of the window, in milliseconds. */
  readonly windowMs: number
}

/** The limits, and the clock that they are kept by. */
export interface RequestQuotaOptions extends QuotaLimits {
  readonly clock: Clock
}

/** The leave to send one request now, and the ear for what the API answered it. */
export interface RequestPermit {
  /** Notes that the API took the request: what a 429 slowed down before goes on at full speed. */
  accepted (): void
  /** Notes that the API answered 429: nothing is sent for so many milliseconds, at least a second. */
  throttled (retryAfterMs: number): void
}

/** The answer to a request for a permit. */
export type QuotaAnswer =
  | { readonly kind: 'granted', readonly permit: RequestPermit }
  /** No permit before the deadline. `retryAfterMs` is the earliest time for another attempt. */
  | { readonly kind: 'refused', readonly reason: 'paused' | 'exhausted', readonly retryAfterMs: number }

interface Waiter {
  readonly priority: LookUpPriority
  readonly deadline: Deadline
  settle (answer: QuotaAnswer): void
}

/** From the first served to the last. */
const priorities: readonly LookUpPriority[] = ['interactive', 'webhook', 'backfill']

/** The part of all tokens that a priority leaves to those above it. */
const reserveRatios: Readonly<Record<LookUpPriority, number>> = { interactive: 0, webhook: 0.25, backfill: 0.5 }

/** The time between two requests from a 429 until a later request is taken, in milliseconds. */
const throttledIntervalMs = 1000

/**
 * A quota of requests with priorities: never more than `maxRequests` in any `windowMs`.
 *
 * Each token comes back `windowMs` after it was taken. A request of a lower priority takes one only while those that
 * are reserved for higher ones stay: a webhook leaves a quarter of all tokens, a backfill half. A request that finds no
 * token waits, behind those of higher priority and those of its own that came before, until its deadline; one that
 * cannot be served by then is refused at once.
 *
 * A 429 pauses all. After the pause one request is sent per second until the API has taken one that was sent after the
 * last 429.
 */
export class RequestQuota {
  readonly #clock: Clock
  readonly #windowMs: number
  /** The instants at which the last `maxRequests` tokens were taken, as a ring: the oldest stands at `#taken` modulo its length. */
  readonly #takenAtMs: Float64Array
  readonly #reserves: Readonly<Record<LookUpPriority, number>>
  readonly #queues: Readonly<Record<LookUpPriority, Set<Waiter>>>
  #taken = 0
  #isThrottled = false
  /** The number of 429s: a request that was sent before the last of them tells nothing of its end. */
  #throttles = 0
  #pausedUntilMs = -Infinity
  #timer: Timer | null = null

  constructor ({ maxRequests, windowMs, clock }: RequestQuotaOptions) {
    const reserveOf = (priority: LookUpPriority): number => Math.floor(maxRequests * reserveRatios[priority])
    this.#clock = clock
    this.#windowMs = windowMs
    this.#takenAtMs = new Float64Array(maxRequests).fill(-Infinity)
    this.#reserves = { interactive: 0, webhook: reserveOf('webhook'), backfill: reserveOf('backfill') }
    this.#queues = { interactive: new Set(), webhook: new Set(), backfill: new Set() }
  }

  /** Waits for a permit, at most until the deadline. Never rejects. A request that is given up takes no token. */
  async acquire (priority: LookUpPriority, deadline: Deadline): Promise<QuotaAnswer> {
    const { signal } = deadline
    if (signal.aborted || this.#isHopeless(priority, deadline)) return this.#refusal(priority)
    return await new Promise(resolve => {
      const queue = this.#queues[priority]
      const waiter: Waiter = {
        priority,
        deadline,
        settle: answer => {
          queue.delete(waiter)
          signal.removeEventListener('abort', giveUp)
          resolve(answer)
        }
      }
      const giveUp = (): void => {
        waiter.settle(this.#refusal(priority))
        this.#serve()
      }
      queue.add(waiter)
      signal.addEventListener('abort', giveUp, { once: true })
      this.#serve()
    })
  }

  /** Serves those whose turn it is, and comes back when it is the next one's. */
  #serve (): void {
    this.#timer?.cancel()
    this.#timer = null
    for (let waiter = this.#next(); waiter !== undefined; waiter = this.#next()) {
      const nowMs = this.#clock.monotonic()
      const waitMs = this.#earliestMs(waiter.priority) - nowMs
      if (waitMs > 0) {
        this.#timer = this.#clock.setTimer(() => { this.#serve() }, Math.min(maxDelayMs, Math.ceil(waitMs)))
        return
      }
      waiter.settle({ kind: 'granted', permit: this.#take(nowMs) })
    }
  }

  /** The first to be served. No other can be served before it: a lower priority reserves more. */
  #next (): Waiter | undefined {
    for (const priority of priorities) {
      const [first] = this.#queues[priority]
      if (first !== undefined) return first
    }
    return undefined
  }

  #take (nowMs: number): RequestPermit {
    this.#takenAtMs[this.#taken % this.#takenAtMs.length] = nowMs
    this.#taken++
    if (this.#isThrottled) this.#pausedUntilMs = nowMs + throttledIntervalMs
    const sentAfter = this.#throttles
    return {
      accepted: () => { if (this.#isThrottled && sentAfter === this.#throttles) this.#recover() },
      throttled: retryAfterMs => { this.#throttle(retryAfterMs) }
    }
  }

  #recover (): void {
    this.#isThrottled = false
    this.#pausedUntilMs = -Infinity
    this.#serve()
  }

  #throttle (retryAfterMs: number): void {
    const untilMs = this.#clock.monotonic() + Math.max(throttledIntervalMs, retryAfterMs)
    this.#isThrottled = true
    this.#throttles++
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, untilMs)
    const hopeless = priorities.flatMap(priority => [...this.#queues[priority]])
      .filter(({ priority, deadline }) => this.#isHopeless(priority, deadline))
    for (const waiter of hopeless) waiter.settle(this.#refusal(waiter.priority))
    this.#serve()
  }

  /** The first instant at which a request of this priority may be sent, if no other is sent before. */
  #earliestMs (priority: LookUpPriority): number {
    const ring = this.#takenAtMs
    const backAtMs = ring[(this.#taken + this.#reserves[priority]) % ring.length]! + this.#windowMs
    return Math.max(this.#pausedUntilMs, backAtMs)
  }

  #isHopeless (priority: LookUpPriority, deadline: Deadline): boolean {
    return this.#earliestMs(priority) > deadline.atMs
  }

  #refusal (priority: LookUpPriority): QuotaAnswer {
    const nowMs = this.#clock.monotonic()
    const reason = this.#pausedUntilMs > nowMs ? 'paused' : 'exhausted'
    return { kind: 'refused', reason, retryAfterMs: Math.max(0, Math.ceil(this.#earliestMs(priority) - nowMs)) }
  }
}
