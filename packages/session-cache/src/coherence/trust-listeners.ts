import type { BusStatus } from './invalidation-bus.js'

/** Tells when trust ends, and when it begins: anew with each epoch. */
export class TrustListeners {
  readonly #listeners = new Set<(status: BusStatus) => void>()
  #trustedEpoch: number | null = null

  /** Adds a listener; returns the function that takes it away. */
  add (listener: (status: BusStatus) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Takes note of how the bus is now, and tells it if it is news. Returns whether it is. */
  note (status: BusStatus, epoch: number): boolean {
    const trustedEpoch = status.trusted ? epoch : null
    if (trustedEpoch === this.#trustedEpoch) return false
    this.#trustedEpoch = trustedEpoch
    for (const listener of this.#listeners) listener(status)
    return true
  }
}
