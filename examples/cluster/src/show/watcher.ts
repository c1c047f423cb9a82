import { CoherenceChecker, type Bounds, type CoherenceReport, type Commit } from '../checker/index.js'
import type { Observed, WriteListener } from '../harness/index.js'
import type { InstanceRow } from './instance-row.js'

interface Watched {
  version: number | null
  marked: boolean
  trusted: boolean
  status: number | null
  cut: boolean
  /** The commit that the last propagation is of. */
  arrived: number
  propagationMs: number | null
  readonly propagations: number[]
}

/** Makes of the commits and the answers what is shown. Knows no clock and no terminal. */
export class Watcher implements WriteListener {
  readonly #checker: CoherenceChecker
  readonly #watched: Map<string, Watched>
  readonly #commits: Commit[] = []

  constructor (names: readonly string[], bounds: Bounds) {
    this.#checker = new CoherenceChecker(bounds)
    this.#watched = new Map(names.map(name => [name, {
      version: null, marked: false, trusted: false, status: null, cut: false, arrived: 0, propagationMs: null, propagations: []
    }]))
  }

  begin (key: string, version: number): void {
    this.#checker.begin(key, version)
  }

  commit (commit: Commit): void {
    this.#checker.commit(commit)
    this.#commits.push(commit)
  }

  /** Somebody cut the instance off, or healed it. */
  cut (name: string, isCut: boolean): void {
    this.#watched.get(name)!.cut = isCut
  }

  hear ({ read, trust }: Observed): void {
    this.#checker.read(read)
    const watched = this.#watched.get(read.instance)!
    const { answer, endedAtMs } = read
    if (answer.kind === 'failed') {
      Object.assign(watched, { version: null, marked: false, status: answer.status })
      return
    }
    Object.assign(watched, { version: answer.version, marked: answer.marked, status: 200, trusted: trust?.trusted ?? false })
    const newest = this.#commits.at(-1)
    if (newest === undefined || newest.version <= watched.arrived || answer.version < newest.version) return
    watched.arrived = newest.version
    watched.propagationMs = Math.max(0, endedAtMs - newest.returnedAtMs)
    if (!watched.cut) watched.propagations.push(watched.propagationMs)
  }

  /** How the instances stand at this instant of the checker's clock. */
  rows (nowMs: number): readonly InstanceRow[] {
    const newest = this.#commits.at(-1)?.version ?? 0
    return [...this.#watched].map(([name, { version, marked, trusted, status, cut, arrived, propagationMs, propagations }]) => ({
      name,
      cut,
      version,
      ageMs: version === null ? 0 : this.#ageOf(version, nowMs),
      marked,
      trusted,
      status,
      propagationMs: arrived === newest ? propagationMs : null,
      medianMs: propagations.length === 0 ? null : propagations.toSorted((a, b) => a - b)[propagations.length >> 1]!
    }))
  }

  /** The newest version that was committed; 0 before the first. */
  get newest (): number {
    return this.#commits.at(-1)?.version ?? 0
  }

  report (): CoherenceReport {
    return this.#checker.report()
  }

  #ageOf (version: number, nowMs: number): number {
    const next = this.#commits.find(commit => commit.version > version)
    return next === undefined ? 0 : Math.max(0, nowMs - next.returnedAtMs)
  }
}
