import type { Commit, Read } from './observations.js'
import { SeenVersions } from './seen-versions.js'
import { VersionHistory } from './version-history.js'

/** What is promised. Milliseconds. */
export interface Bounds {
  /** B: no unmarked user is older. */
  readonly maxStalenessMs: number
  /** S: a marked user is at most this much older than B. */
  readonly staleIfErrorMs: number
}

/** What can be wrong with an answer. */
export type Violation = 'unmarked too old' | 'marked too old' | 'regression' | 'mix-up' | 'unwritten version'

/** What the reads come to. */
export interface CoherenceReport {
  readonly commits: number
  readonly reads: number
  readonly marked: number
  /** Requests that brought no user, by status; "none": no answer at all. */
  readonly failed: Readonly<Record<string, number>>
  readonly violations: Readonly<Record<Violation, number>>
  /** The largest age of an unmarked user that is certain, in milliseconds: since a newer version had been committed when the request began. */
  readonly oldestUnmarkedMs: number
  readonly oldestMarkedMs: number
  /** The first violations, in words. */
  readonly findings: readonly string[]
}

const keptFindings = 20

/**
 * Holds what instances answer against what was committed, from outside: it knows the writes and the answers, and nothing of what is between.
 *
 * Sound: an answer counts as wrong only if no order of events within the observed intervals makes it right. A write has happened when its
 * COMMIT has returned, and a request sees nothing from before it was sent, so the age of an answer is taken from the return of the commit
 * that superseded it to the sending of the request, which is never more than it really was. Versions go back only between an answer
 * that had come in and a request that was sent after it. Sharp: what is certain by these rules is found, however short it lasted.
 *
 * Commits must be told when they return, before later reads; reads in the order in which their answers came in.
 */
export class CoherenceChecker {
  readonly #bounds: Bounds
  readonly #histories = new Map<string, VersionHistory>()
  readonly #seen = new Map<string, SeenVersions>()
  readonly #failed: Record<string, number> = {}
  readonly #violations: Record<Violation, number> = { 'unmarked too old': 0, 'marked too old': 0, regression: 0, 'mix-up': 0, 'unwritten version': 0 }
  readonly #findings: string[] = []
  #commits = 0
  #reads = 0
  #marked = 0
  #oldestUnmarkedMs = 0
  #oldestMarkedMs = 0
  #lastEndMs = -Infinity

  constructor (bounds: Bounds) {
    this.#bounds = bounds
  }

  /** A version is about to be written. */
  begin (key: string, version: number): void {
    this.#historyOf(key).begin(version)
  }

  /** A version was written. */
  commit (commit: Commit): void {
    this.#historyOf(commit.key).commit(commit)
    this.#commits++
  }

  /** The newest version of each key that is known to be committed. */
  newest (): ReadonlyMap<string, number> {
    return new Map([...this.#histories].map(([key, history]) => [key, history.newest]))
  }

  /** A request was answered, or failed. Returns what is wrong with the answer; null when nothing is. */
  read (read: Read): Violation | null {
    if (read.endedAtMs < this.#lastEndMs) throw new RangeError('reads must be told in the order in which their answers came in')
    this.#lastEndMs = read.endedAtMs
    this.#reads++
    const { answer } = read
    if (answer.kind === 'failed') {
      const status = String(answer.status ?? 'none')
      this.#failed[status] = (this.#failed[status] ?? 0) + 1
      return null
    }
    if (answer.marked) this.#marked++
    return this.#judge(read, answer)
  }

  report (): CoherenceReport {
    return {
      commits: this.#commits,
      reads: this.#reads,
      marked: this.#marked,
      failed: { ...this.#failed },
      violations: { ...this.#violations },
      oldestUnmarkedMs: this.#oldestUnmarkedMs,
      oldestMarkedMs: this.#oldestMarkedMs,
      findings: [...this.#findings]
    }
  }

  #judge (read: Read, { key, version, marked }: Extract<Read['answer'], { kind: 'user' }>): Violation | null {
    if (key !== read.key) return this.#found('mix-up', read, `was answered with ${key}`)
    const history = this.#historyOf(key)
    if (!history.canExist(version)) return this.#found('unwritten version', read, `saw version ${version}, which nobody had begun to write`)

    const ageMs = Math.max(0, read.begunAtMs - history.supersededAtMs(version))
    const seen = this.#seenOf(read)
    const before = seen.before(read.begunAtMs)
    seen.see(version, read.endedAtMs)
    const { maxStalenessMs, staleIfErrorMs } = this.#bounds
    if (marked) {
      this.#oldestMarkedMs = Math.max(this.#oldestMarkedMs, ageMs)
      return ageMs > maxStalenessMs + staleIfErrorMs ? this.#found('marked too old', read, `saw version ${version}, superseded ${Math.round(ageMs)} ms before`) : null
    }
    this.#oldestUnmarkedMs = Math.max(this.#oldestUnmarkedMs, ageMs)
    if (ageMs > maxStalenessMs) return this.#found('unmarked too old', read, `saw version ${version}, superseded ${Math.round(ageMs)} ms before`)
    return version < before ? this.#found('regression', read, `saw version ${version} after version ${before}`) : null
  }

  #found (violation: Violation, { instance, key, begunAtMs, endedAtMs }: Read, what: string): Violation {
    this.#violations[violation]++
    if (this.#findings.length < keptFindings) {
      this.#findings.push(`${violation}: ${key} at ${instance}, ${begunAtMs.toFixed(1)} to ${endedAtMs.toFixed(1)} ms, ${what}`)
    }
    return violation
  }

  #historyOf (key: string): VersionHistory {
    let history = this.#histories.get(key)
    if (history === undefined) this.#histories.set(key, history = new VersionHistory())
    return history
  }

  #seenOf ({ instance, key }: Read): SeenVersions {
    const pair = JSON.stringify([instance, key])
    let seen = this.#seen.get(pair)
    if (seen === undefined) this.#seen.set(pair, seen = new SeenVersions())
    return seen
  }
}

/** How many answers were wrong. */
export function violationsOf ({ violations }: CoherenceReport): number {
  return Object.values(violations).reduce((sum, count) => sum + count, 0)
}
