import type { Commit } from './observations.js'

/** The commits of one key, in their order. */
export class VersionHistory {
  readonly #versions: number[] = []
  readonly #returnedAtMs: number[] = []
  #begun = -Infinity

  /** Notes that the version is about to be written; whether it will be committed is open. */
  begin (version: number): void {
    if (version <= this.#begun) throw new RangeError(`version ${version} follows ${this.#begun}; versions of a key must grow`)
    this.#begun = version
  }

  commit ({ version, sentAtMs, returnedAtMs }: Commit): void {
    const last = this.#returnedAtMs.at(-1) ?? -Infinity
    if (version > this.#begun || version <= this.newest || sentAtMs > returnedAtMs || returnedAtMs < last) {
      throw new RangeError(`version ${version} (sent at ${sentAtMs}, returned at ${returnedAtMs}) follows ${this.newest}, returned at ${last}; the commits of a key must be told in their order`)
    }
    this.#versions.push(version)
    this.#returnedAtMs.push(returnedAtMs)
  }

  /** The newest version that is known to be committed; -Infinity before the first. */
  get newest (): number {
    return this.#versions.at(-1) ?? -Infinity
  }

  /** Whether anybody may have seen this version by now. */
  canExist (version: number): boolean {
    return version <= this.#begun
  }

  /** The instant by which a newer version was committed for certain; Infinity while there is none. */
  supersededAtMs (version: number): number {
    return this.#returnedAtMs[firstAbove(this.#versions, version)] ?? Infinity
  }
}

/** The index of the first number above the value, in a list that grows; its length when there is none. */
export function firstAbove (list: readonly number[], value: number): number {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (list[middle]! > value) high = middle
    else low = middle + 1
  }
  return low
}
