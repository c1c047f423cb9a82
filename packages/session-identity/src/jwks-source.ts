import { unavailable, type Clock, type Timer, type UnavailableOutcome } from '@orientor/session-contract/core'
import type { Algorithm } from './algorithm.js'
import { Discovery } from './discovery.js'
import { errors } from './errors.js'
import { fetchJson, type Fetch } from './fetch-json.js'
import { fixedLocator, type KeyLocation, type KeyLocator } from './key-locator.js'
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
  /**
   * How long after a load the next one is made unasked, so that a withdrawn key is noticed, in milliseconds. Default is 300000
   * (5 minutes).
   */
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

/**
 * How long a request may wait for keys that are newer than those at hand: not at all; for a load that is under way or may start now;
 * or also, if the route requires a session, for one that starts when the cooldown ends.
 */
export type Patience = 'none' | 'load' | 'cooldown'

/** The state of the loads when a token came: only a load that began later can say that no key of the issuer's signed it. */
export interface Arrival {
  /** How many loads had begun. */
  readonly loadsStarted: number
  readonly atMs: number
}

/** What went wrong in a load. */
interface LoadFailure {
  readonly step: 'discovery' | 'keys'
  readonly url: string
  readonly cause: unknown
}

/** Longest time that a request waits for a load that has not begun when its token comes, in milliseconds. */
const maxWaitMs = 2000

/** Most requests that wait for such a load at a time: any client can send tokens of unknown keys. */
const maxWaiting = 100

/**
 * The keys of one issuer. Loaded at first need, then again in the background; one load at a time, and none within the cooldown of
 * the last one: a token that needs one then makes it start when the cooldown ends. While the endpoint is down, slow or answers
 * anything but a key set, the last good set stays in use. A key that a newer set does not hold loses its trust.
 */
export class JwksSource {
  readonly #locator: KeyLocator
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
  #inFlight: Promise<void> | null = null
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
    this.#locator = 'jwksUrl' in location
      ? fixedLocator(location.jwksUrl)
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

  /** When asking again makes sense, in milliseconds from now: when the load under way must have ended, else when the next may start. */
  get retryAfterMs (): number {
    const sinceStartMs = this.#inFlight === null ? this.#cooldownMs : this.#timeoutMs
    return Math.max(0, this.#startedAtMs + sinceStartMs - this.#clock.monotonic())
  }

  get stats (): JwksSourceStats {
    const failing = this.#failure?.step ?? null
    return { fetches: this.#loads, failures: this.#failures, keys: this.keys.length, failing }
  }

  /**
   * Joins the load that is under way, or starts one. When the last is too recent, one is made as soon as the cooldown ends, which
   * is not waited for. Resolves, never rejects, when `keys` are as new as can be had now.
   */
  async refresh (): Promise<void> {
    if (this.#inFlight === null && !this.#closed) {
      if (this.retryAfterMs === 0) this.#inFlight = this.#load()
      else this.#refreshIn(this.retryAfterMs)
    }
    await this.#inFlight
  }

  /** The state of the loads at this moment, by which it is told later whether a load began after it. */
  arrival (): Arrival {
    return { loadsStarted: this.#loads, atMs: this.#clock.monotonic() }
  }

  /** Whether the keys in use are of a load that began after a token came: if none of them signed it, it is not the issuer's. */
  isLoadedSince ({ loadsStarted }: Arrival): boolean {
    return this.#lastGoodLoad > loadsStarted
  }

  /**
   * Waits, as patience allows, until `keys` may have changed, for a token that none of them signed: for the load under way or, outside
   * of the cooldown, the one that starts now. Within the cooldown a load is made as soon as that ends, and waited for at most 2000 ms
   * from the token's arrival, by at most 100 callers at a time.
   *
   * @returns null when there are keys to look at, or `unavailable`: it is not known yet whether the token is good. Its cause is null
   *   when the last load went well and there is nothing for the operator to read.
   */
  async waitForNewerKeys (arrival: Arrival, patience: Patience): Promise<UnavailableOutcome | null> {
    const { retryAfterMs } = this
    const isCoolingDown = this.#inFlight === null && retryAfterMs > 0
    const refreshed = this.refresh()
    if (this.#closed || patience === 'none') return this.#unavailable()
    if (isCoolingDown) {
      const remainingMs = arrival.atMs + maxWaitMs - this.#clock.monotonic()
      if (patience !== 'cooldown' || retryAfterMs >= remainingMs) return this.#unavailable()
      if (!await this.#waiters.wait(remainingMs)) return this.#unavailable()
    } else {
      await refreshed
    }
    // A load that failed says nothing. One that began before the token came may have read too early: the next one tells.
    return this.#lastEndedLoad > arrival.loadsStarted && !this.isLoadedSince(arrival) ? this.#unavailable() : null
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
    let failure: LoadFailure = { step: 'discovery', url: this.#locator.firstUrl, cause: null }
    try {
      const { keys, undiscovered } = await withTimeout(this.#clock, this.#timeoutMs, async signal => {
        const located = await this.#locator.locate(signal)
        failure = { step: 'keys', url: located.url, cause: null }
        const accept = 'application/jwk-set+json, application/json'
        const document = await fetchJson(located.url, { fetch: this.#fetch, accept, maxBytes: this.#maxBytes, signal })
        const keys = readKeySet(document, this.#keys, this.#algorithms)
        if (keys === null) throw new Error('its answer is not a JWK set with public keys for signatures')
        return { keys, undiscovered: located.failure }
      })
      this.#use(keys)
      this.#loadedAtMs = this.#clock.monotonic()
      this.#ended(load, undiscovered === null ? null : { step: 'discovery', url: this.#locator.firstUrl, cause: undiscovered })
    } catch (cause) {
      this.#ended(load, { ...failure, cause })
    }
  }

  /** @param failure - null: the keys are as new as can be */
  #ended (load: number, failure: LoadFailure | null): void {
    if (failure === null) {
      this.#lastGoodLoad = load
      this.#failure = null
      this.#refreshIn(this.#refreshAfterMs)
    } else {
      const { step, url, cause } = failure
      this.#locator.invalidate()
      this.#failures++
      const error = new errors.KeysUnavailable(url, cause instanceof Error ? cause.message : 'unknown failure')
      this.#failure = { step, error: Object.assign(error, { cause }) }
      // Without keys the next token asks by itself.
      if (this.keys.length > 0) this.#refreshIn(this.#cooldownMs)
    }
    this.#lastEndedLoad = load
    this.#inFlight = null
    this.#waiters.release()
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
