import type { Read } from './observations.js'

/**
 * Waits until every instance serves what every key had come to at one instant, usually that at which a fault ended: for each instance and
 * key, an unmarked answer to a request that was sent later, with that version or a newer one.
 */
export class Convergence {
  readonly #sinceMs: number
  readonly #targets: ReadonlyMap<string, number>
  readonly #missing = new Map<string, Set<string>>()
  #convergedAtMs: number

  /**
   * @param targets - the version that each key had come to
   * @param instances - who has to serve them
   */
  constructor (sinceMs: number, targets: ReadonlyMap<string, number>, instances: readonly string[]) {
    this.#sinceMs = sinceMs
    this.#targets = targets
    for (const instance of instances) this.#missing.set(instance, new Set(targets.keys()))
    this.#convergedAtMs = sinceMs
  }

  read ({ instance, begunAtMs, endedAtMs, answer }: Read): void {
    if (begunAtMs < this.#sinceMs || answer.kind !== 'user' || answer.marked || answer.version < this.#targets.get(answer.key)!) return
    if (this.#missing.get(instance)?.delete(answer.key) === true) this.#convergedAtMs = Math.max(this.#convergedAtMs, endedAtMs)
  }

  /** How long it took, in milliseconds; Infinity while something is missing. */
  get tookMs (): number {
    for (const keys of this.#missing.values()) if (keys.size > 0) return Infinity
    return this.#convergedAtMs - this.#sinceMs
  }

  /** What is missing, in words. */
  get missing (): readonly string[] {
    return [...this.#missing].flatMap(([instance, keys]) => [...keys].map(key => `${key} at ${instance}`))
  }
}
