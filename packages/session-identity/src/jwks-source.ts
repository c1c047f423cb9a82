import { unavailable, type Clock, type Timer, type UnavailableOutcome } from '@orientor/session-contract/core'
import type { Algorithm } from './algorithm.js'
import { Discovery, fixedPlace, type KeyLocation, type KeyPlace } from './discovery.js'
import { errors } from './errors.js'
import { fetchJson, type Fetch } from './fetch-json.js'
import { LoadWaiters } from './load-waiters.js'
import type { Lookup } from './private-host.js'
import { readKeySet, type PublishedKey } from './verifying-key.js'
import { withTimeout } from './with-timeout.js'

/** How keys are fetched and kept. */
export interface JwksSourceOptions {
  /** Where the issuer publishes its JWK set, or who says so. */
  readonly location: KeyLocation
  readonly fetch: Fetch
  readonly clock: Clock
  /** Finds the addresses of a discovered host. Default is null: its name alone is judged. */
  readonly lookup?: Lookup | null
  /** What keys without an `alg` may verify. Default is null: what their type and curve say. */
  readonly algorithms?: readonly Algorithm[] | null
  /** Longest time for one load, discovery included, in milliseconds. Default is 2000. */
  readonly timeoutMs?: number
  /** Largest document, in bytes. Default is 1048576 (1 MiB). */
  readonly maxBytes?: number
  /** Shortest time between the starts of two loads, in milliseconds. Default is 5000. */
  readonly cooldownMs?: number
  /** How long after a load the next one is made unasked, so that a withdrawn key is noticed, in milliseconds. Default is 300000 (5 minutes). */
  readonly refreshAfterMs?: number
  /** How long the last good set is used while no other can be had, in milliseconds. Default is 86400000 (24 hours). */
  readonly keepForMs?: number
}

/** Counts since the start; `keys` and `failing` describe the present. */
export interface JwksSourceStats {
  /** Loads of the keys; the discovery that a load may begin with is part of it. */
  readonly fetches: number
  readonly failures: number
  readonly keys: number
  /** What failed in the last load; null when nothing did. */
  readonly failing: 'discovery' | 'keys' | null
}

/** When a token came, as its issuer's keys see it: only a load that began later can say that no key of the issuer's signed it. */
export interface Arrival {
  /** Loads that had begun. */
  readonly loads: number
  readonly atMs: number
}

/** Longest time that a request waits for a load that has not begun when its token comes, in milliseconds. */
const maxWaitMs = 2000

/** Most requests that wait for such a load at a time: each holds a connection, and any client can send tokens of unknown keys. */
const maxWaiting = 100

/**
 * The keys of one issuer. Loaded at first need, then again in the background; one load at a time, whoever asks, and none within the
 * cooldown of the last one: a token that needs one then makes it start when the cooldown ends. While the endpoint is down, slow or
 * answers anything but a key set, the last good set stays in use. A key that a newer set does not hold loses its trust.
 */
export class JwksSource {
  readonly #place: KeyPlace
  readonly #fetch: Fetch
  readonly #clock: Clock
  readonly #algorithms: readonly Algorithm[] | null
  readonly #timeoutMs: number
  readonly #maxBytes: number
  readonly #cooldownMs: number
  readonly #refreshAfterMs: number
  readonly #keepForMs: number
  readonly #waiters: LoadWaiters
  #keys: readonly PublishedKey[] = []
  #loadedAtMs = -Infinity
  #startedAtMs = -Infinity
  #flight: Promise<void> | null = null
  #timer: Timer | null = null
  #dueAtMs = Infinity
  #failure: { readonly step: 'discovery' | 'keys', readonly error: Error } | null = null
  #loads = 0
  #lastGoodLoad = 0
  #lastEndedLoad = 0
  #failures = 0
  #closed = false

  constructor ({ location, fetch, clock, lookup = null, ...options }: JwksSourceOptions) {
    this.#fetch = fetch
    this.#clock = clock
    this.#algorithms = options.algorithms ?? null
    this.#timeoutMs = options.timeoutMs ?? 2000
    this.#maxBytes = options.maxBytes ?? 1_048_576
    this.#cooldownMs = options.cooldownMs ?? 5000
    this.#refreshAfterMs = options.refreshAfterMs ?? 300_000
    this.#keepForMs = options.keepForMs ?? 86_400_000
    this.#waiters = new LoadWaiters(clock, maxWaiting)
    this.#place = 'jwksUrl' in location
      ? fixedPlace(location.jwksUrl)
      : new Discovery({
        issuer: location.discoverFrom,
        fetch,
        lookup,
        clock,
        timeoutMs: this.#timeoutMs / 2, // A discovery that fails leaves time for the keys.
        maxBytes: this.#maxBytes,
        refreshAfterMs: this.#refreshAfterMs,
        keepForMs: this.#keepForMs
      })
  }

  /** The keys in use; none when no set was ever loaded, or the last good one is too old. */
  get keys (): readonly PublishedKey[] {
    if (this.#keys.length > 0 && this.#clock.monotonic() - this.#loadedAtMs >= this.#keepForMs) this.#use([])
    return this.#keys
  }

  /** Why the last load failed; null when it did not. */
  get failure (): Error | null {
    return this.#failure?.error ?? null
  }

  /** When asking again makes sense, in milliseconds from now: when the load under way has ended, or else when the next may start. */
  get retryAfterMs (): number {
    return Math.max(0, this.#startedAtMs + (this.#flight === null ? this.#cooldownMs : this.#timeoutMs) - this.#clock.monotonic())
  }

  get stats (): JwksSourceStats {
    return { fetches: this.#loads, failures: this.#failures, keys: this.keys.length, failing: this.#failure?.step ?? null }
  }

  /**
   * Joins the load that is under way, or starts one. When the last is too recent, one is made as soon as the cooldown ends, which is
   * not waited for. Resolves, never rejects, when `keys` are as new as can be had now.
   */
  async refresh (): Promise<void> {
    if (this.#flight === null && !this.#closed) {
      if (this.retryAfterMs === 0) this.#flight = this.#load()
      else this.#refreshIn(this.retryAfterMs)
    }
    await this.#flight
  }

  /** Marks the coming of a token. */
  arrival (): Arrival {
    return { loads: this.#loads, atMs: this.#clock.monotonic() }
  }

  /** Whether the keys in use are those of a load that began after a token came: what none of them signed is not the issuer's. */
  isLoadedSince ({ loads }: Arrival): boolean {
    return this.#lastGoodLoad > loads
  }

  /**
   * Waits until `keys` may have changed for a token that none of them signed: for the load under way or, outside of the cooldown, the one
   * that starts now. Within the cooldown a load is made as soon as that ends, and waited for only where the caller may wait,
   * at most 2000 ms from the token's arrival, by at most 100 callers at a time.
   *
   * @returns null when there are keys to look at, or `unavailable`: nobody can tell yet whether the token is good. Its cause is null
   *   when there is nothing to read for the operator: the last load went well.
   */
  async newerKeys (arrival: Arrival, mayWait: boolean): Promise<UnavailableOutcome | null> {
    if (this.#flight === null && (this.#closed || this.retryAfterMs > 0)) {
      const { retryAfterMs } = this
      const patienceMs = arrival.atMs + maxWaitMs - this.#clock.monotonic()
      this.#refreshIn(retryAfterMs)
      if (this.#closed || !mayWait || retryAfterMs >= patienceMs || !await this.#waiters.wait(patienceMs)) return this.#unavailable()
    } else {
      await this.refresh()
    }
    // A load that failed says nothing; one that began before the token came may have read too early, which is for the next to tell.
    return this.#lastEndedLoad > arrival.loads && !this.isLoadedSince(arrival) ? this.#unavailable() : null
  }

  /** Ends the refreshing; the keys stay. */
  close (): void {
    this.#closed = true
    this.#timer?.cancel()
    this.#waiters.release()
  }

  async #load (): Promise<void> {
    const load = ++this.#loads
    this.#startedAtMs = this.#clock.monotonic()
    this.#timer?.cancel()
    this.#dueAtMs = Infinity
    let step: 'discovery' | 'keys' = 'discovery'
    let { url } = this.#place
    try {
      const { keys, undiscovered } = await withTimeout(this.#clock, this.#timeoutMs, async signal => {
        const located = await this.#place.locate(signal)
        step = 'keys'
        url = located.url
        const document = await fetchJson(url, { fetch: this.#fetch, accept: 'application/jwk-set+json, application/json', maxBytes: this.#maxBytes, signal })
        const keys = readKeySet(document, this.#keys, this.#algorithms)
        if (keys === null) throw new Error('its answer is not a JWK set with public keys for signatures')
        return { keys, undiscovered: located.failure }
      })
      this.#use(keys)
      this.#loadedAtMs = this.#clock.monotonic()
      if (undiscovered !== null) {
        step = 'discovery'
        url = this.#place.url
        throw undiscovered
      }
      this.#lastGoodLoad = load
      this.#failure = null
      this.#refreshIn(this.#refreshAfterMs)
    } catch (cause) {
      this.#place.doubt()
      this.#failures++
      const error = new errors.KeysUnavailable(url, cause instanceof Error ? cause.message : 'unknown failure')
      this.#failure = { step, error: Object.assign(error, { cause }) }
      // Without keys the next token asks by itself.
      if (this.keys.length > 0) this.#refreshIn(this.#cooldownMs)
    } finally {
      this.#lastEndedLoad = load
      this.#flight = null
      this.#waiters.release()
    }
  }

  #unavailable (): UnavailableOutcome {
    return unavailable(this.retryAfterMs, this.failure)
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
