import { firstAbove } from './version-history.js'

/** What one instance has shown of one key: which version had been seen by when. */
export class SeenVersions {
  // Both grow: only what is newer than everything before is kept.
  readonly #endedAtMs: number[] = []
  readonly #versions: number[] = []

  /** Notes an answer. Must be told in the order in which the answers came in. */
  see (version: number, endedAtMs: number): void {
    if (version <= (this.#versions.at(-1) ?? -Infinity)) return
    this.#endedAtMs.push(endedAtMs)
    this.#versions.push(version)
  }

  /** The newest version of the answers that were there before this instant; -Infinity when there were none. */
  before (atMs: number): number {
    // An answer of the very same instant is not before it.
    const index = firstAbove(this.#endedAtMs, atMs) - 1
    for (let at = index; at >= 0; at--) {
      if (this.#endedAtMs[at]! < atMs) return this.#versions[at]!
    }
    return -Infinity
  }
}
