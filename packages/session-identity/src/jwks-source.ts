import type { Clock, Timer } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { fetchJson, type Fetch } from './fetch-json.js'
import { readKeySet, type PublishedKey } from './verifying-key.js'

/** How keys are fetched and kept. */
export interface JwksSourceOptions {
  /** Where the issuer publishes its JWK set. */
  readonly url: string
  readonly fetch: Fetch
  readonly clock: Clock
  /** Longest time for one fetch, in milliseconds. Default is 2000. */
  readonly timeoutMs?: number
  /** Largest set, in bytes. Default is 1048576 (1 MiB). */
  readonly maxBytes?: number
  /** Shortest time between the starts of two fetches, in milliseconds. Default is 5000. */
  readonly cooldownMs?: number
  /** How long after a fetch the next one is made unasked, so that a withdrawn key is noticed, in milliseconds. Default is 300000 (5 minutes). */
  readonly refreshAfterMs?: number
  /** How long the last good set is used while no other can be had, in milliseconds. Default is 86400000 (24 hours). */
  readonly keepForMs?: number
}

/** Counts since the start; `keys` and `failing` describe the present. */
export interface JwksSourceStats {
  readonly fetches: number
  readonly failures: number
  readonly keys: number
  readonly failing: boolean
}

/**
 * The keys of one issuer. Fetched at first need, then again in the background; one fetch at a time, whoever asks, and none within the
 * cooldown of the last one: who asks then makes one start when it ends. While the endpoint is down, slow or answers anything but a key set, the last good set stays in use. A key
 * that a newer set does not hold loses its trust.
 */
export class JwksSource {
  readonly #url: string
  readonly #fetch: Fetch
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #maxBytes: number
  readonly #cooldownMs: number
  readonly #refreshAfterMs: number
  readonly #keepForMs: number
  #keys: readonly PublishedKey[] = []
  #loadedAtMs = -Infinity
  #startedAtMs = -Infinity
  #flight: Promise<void> | null = null
  #timer: Timer | null = null
  #dueAtMs = Infinity
  #failure: Error | null = null
  #fetches = 0
  #failures = 0
  #closed = false

  constructor (options: JwksSourceOptions) {
    this.#url = options.url
    this.#fetch = options.fetch
    this.#clock = options.clock
    this.#timeoutMs = options.timeoutMs ?? 2000
    this.#maxBytes = options.maxBytes ?? 1_048_576
    this.#cooldownMs = options.cooldownMs ?? 5000
    this.#refreshAfterMs = options.refreshAfterMs ?? 300_000
    this.#keepForMs = options.keepForMs ?? 86_400_000
  }

  /** The keys in use; none when no set was ever loaded, or the last good one is too old. */
  get keys (): readonly PublishedKey[] {
    if (this.#keys.length > 0 && this.#clock.monotonic() - this.#loadedAtMs >= this.#keepForMs) this.#use([])
    return this.#keys
  }

  /** Why the last fetch failed; null when it did not. */
  get failure (): Error | null {
    return this.#failure
  }

  /** When the next fetch may start, in milliseconds from now. */
  get retryAfterMs (): number {
    return Math.max(0, this.#startedAtMs + this.#cooldownMs - this.#clock.monotonic())
  }

  get stats (): JwksSourceStats {
    return { fetches: this.#fetches, failures: this.#failures, keys: this.keys.length, failing: this.#failure !== null }
  }

  /**
   * Joins the fetch that is under way, or starts one. When the last is too recent, one is made as soon as the cooldown ends, which is
   * not waited for. Resolves, never rejects, when `keys` are as new as can be had now.
   */
  async refresh (): Promise<void> {
    if (this.#flight === null && !this.#closed) {
      if (this.retryAfterMs === 0) this.#flight = this.#load().finally(() => { this.#flight = null })
      else this.#refreshIn(this.retryAfterMs)
    }
    await this.#flight
  }

  /** Ends the refreshing; the keys stay. */
  close (): void {
    this.#closed = true
    this.#timer?.cancel()
  }

  async #load (): Promise<void> {
    this.#startedAtMs = this.#clock.monotonic()
    this.#fetches++
    this.#timer?.cancel()
    this.#dueAtMs = Infinity
    try {
      const document = await fetchJson(this.#url, { fetch: this.#fetch, clock: this.#clock, timeoutMs: this.#timeoutMs, maxBytes: this.#maxBytes })
      const keys = readKeySet(document, this.#keys)
      if (keys === null) throw new Error('its answer is not a JWK set with public keys for signatures')
      this.#use(keys)
      this.#loadedAtMs = this.#clock.monotonic()
      this.#failure = null
      this.#refreshIn(this.#refreshAfterMs)
    } catch (cause) {
      this.#failures++
      this.#failure = Object.assign(new errors.KeysUnavailable(this.#url, cause instanceof Error ? cause.message : 'unknown failure'), { cause })
      // Without keys the next token asks by itself.
      if (this.keys.length > 0) this.#refreshIn(this.#cooldownMs)
    }
  }

  #use (keys: readonly PublishedKey[]): void {
    for (const key of this.#keys) if (!keys.includes(key)) key.trusted = false
    this.#keys = keys
  }

  /** The earliest wish counts. */
  #refreshIn (delayMs: number): void {
    const dueAtMs = this.#clock.monotonic() + delayMs
    if (this.#closed || dueAtMs >= this.#dueAtMs) return
    this.#timer?.cancel()
    this.#dueAtMs = dueAtMs
    this.#timer = this.#clock.setTimer(() => {
      this.#dueAtMs = Infinity
      this.refresh().catch(() => {})
    }, delayMs)
  }
}
