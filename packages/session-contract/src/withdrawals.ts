import type { Clock } from './clock.js'
import { withdrawalOf, type Withdrawal } from './withdrawal.js'

/** The log that refusals are told to; Fastify's logger fits. */
export interface WithdrawalLogger {
  error (details: object, message: string): void
  info (details: object, message: string): void
}

/** The least time between two lines about one refusal that lasts, in milliseconds. */
const againAfterMs = 60_000

interface Lasting {
  withdrawal: Withdrawal
  isTold: boolean
}

/**
 * The refusals of PostgreSQL that last now, by what is refused. Tells a log when one begins, with its cause and what to
 * do, and when it is over: each at most once a minute, whatever the number of requests.
 */
export class Withdrawals {
  readonly #owner: string
  readonly #logger: WithdrawalLogger
  readonly #clock: Clock
  readonly #lasting = new Map<string, Lasting>()
  readonly #toldAtMs = new Map<string, number>()

  /** @param owner - the package, which begins each line */
  constructor (owner: string, logger: WithdrawalLogger, clock: Clock) {
    this.#owner = owner
    this.#logger = logger
    this.#clock = clock
  }

  /** The refusal that lasts; null when there is none. */
  of (what: string): Withdrawal | null {
    return this.#lasting.get(what)?.withdrawal ?? null
  }

  /** Takes note of a failure of a statement of the source's own; one that is no refusal changes nothing. */
  failed (what: string, error: unknown): void {
    const withdrawal = withdrawalOf(error, 'own')
    if (withdrawal === null) return
    const lasting = this.#lasting.get(what) ?? { withdrawal, isTold: false }
    lasting.withdrawal = withdrawal
    this.#lasting.set(what, lasting)
    const { code, reason, remedy } = withdrawal
    const nowMs = this.#clock.monotonic()
    if (nowMs - (this.#toldAtMs.get(`${what} ${code}`) ?? -Infinity) < againAfterMs) return
    this.#toldAtMs.set(`${what} ${code}`, nowMs)
    lasting.isTold = true
    this.#logger.error({ err: error, code }, `${this.#owner}: PostgreSQL refuses ${what}: ${reason} (${code}). ` +
      `A cache in front serves the users it knows, marked stale. ${remedy}`)
  }

  /** Takes note of an answer: the refusal, if there was one, is over. */
  answered (what: string): void {
    if (this.#lasting.size === 0) return
    const lasting = this.#lasting.get(what)
    this.#lasting.delete(what)
    if (lasting?.isTold === true) this.#logger.info({}, `${this.#owner}: PostgreSQL does not refuse ${what} any more`)
  }
}
