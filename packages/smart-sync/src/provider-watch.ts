import type { Clock } from '@orientor/session-contract/core'
import { errors } from './errors.js'

/** The log that is told of the provider; Fastify's logger fits. */
export interface ProviderLog {
  error (details: object, message: string): void
  warn (details: object, message: string): void
  info (details: object, message: string): void
}

/** The least time between two lines about a provider that cannot be asked, in milliseconds. */
const againAfterMs = 60_000

/**
 * The state of the identity provider, as the last look-up left it. Tells a log when the provider cannot be asked, at most
 * once a minute, and when it can be asked again; a refusal, which an operator has to mend, as an error.
 */
export class ProviderWatch {
  readonly #log: ProviderLog | undefined
  readonly #clock: Clock
  #failure: Error | null = null
  #toldAtMs = -Infinity
  #isTold = false

  constructor (log: ProviderLog | undefined, clock: Clock) {
    this.#log = log
    this.#clock = clock
  }

  /** The reason why the provider could not be asked the last time; null when it could. */
  get failure (): Error | null {
    return this.#failure
  }

  /** Takes note of a look-up. @param failure - null: it was answered */
  ended (failure: Error | null): void {
    this.#failure = failure
    if (failure === null) {
      if (this.#isTold) this.#log?.info({}, 'smart-sync: the identity provider can be asked again')
      this.#isTold = false
      return
    }
    const nowMs = this.#clock.monotonic()
    if (nowMs - this.#toldAtMs < againAfterMs) return
    this.#toldAtMs = nowMs
    this.#isTold = true
    const how = failure instanceof errors.ProviderRefused ? 'error' : 'warn'
    this.#log?.[how]({ err: failure }, 'smart-sync: the identity provider could not be asked; users who have a row go on as stored')
  }
}
