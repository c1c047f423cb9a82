import type fc from 'fast-check'
import {
  SourceUnavailable, startDeadline, type Deadline, type Identity, type LoadRequest, type RouteSession, type SessionOutcome, type UserChange, type UserRecord, type UserSource
} from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import { DatabaseSessionManager, resolveOptions } from '../../src/core.js'
import { ModelTrust } from '../fixtures/model-trust.js'
import { hashOf, issuer, keyOf, recordOf } from '../fixtures/setup.js'

export const users = ['a', 'b', 'c'] as const
export type Subject = typeof users[number]

const boundMs = 3000
const expireAfterMs = 6000
const staleIfErrorMs = 8000
const maxEntries = 2
const maxLoads = 4
const down = new SourceUnavailable('The database is down')

/** A state of a user in the database. The cache sees revisions; what it must show is judged by stamps, of which each write has its own. */
interface Version { readonly stamp: number, readonly revision: number, readonly kind: 'active' | 'inactive' | 'unknown', untilMs: number }
interface Open { readonly subject: string, readonly generation: number, readonly deadline: Deadline }
interface Begin { readonly startedMs: number, readonly told: number, readonly shown: number }

/**
 * One instance of a service, its database and the bus between them, small enough for thousands of runs. Every asynchronous edge is a task of
 * the scheduler: the end of a turn, the reading of the database, its reply, the delivery of an announcement or a proof. Broken promises
 * are collected in `flaws`; their numbers are named where they are checked.
 */
export class World implements UserSource {
  readonly clock = new ManualClock()
  readonly trust: ModelTrust | null
  readonly manager: DatabaseSessionManager
  readonly flaws: string[] = []
  readonly #scheduler: fc.Scheduler
  readonly #history = new Map<string, Version[]>()
  /** What the bus carries, in the order of the commits. */
  #queue: Array<() => void> = []
  /** The newest stamp that the cache was told of, by announcement or by invalidation. */
  readonly #told = new Map<string, number>()
  /** The newest stamp that a request was answered with. */
  readonly #shown = new Map<string, number>()
  readonly #generation = new Map<string, number>()
  readonly #open = new Set<Open>()
  /** How much longer than the monotonic clock says the run has taken, in milliseconds: it stands still while the machine sleeps. */
  #asleepMs = 0
  #stamp = 0
  #pending = 0
  #connected = true
  #collapses = false
  lookups = 0
  loads = 0
  down = false

  constructor (scheduler: fc.Scheduler, withBus: boolean) {
    this.#scheduler = scheduler
    for (const subject of users) this.#history.set(subject, [{ stamp: 0, revision: 1, kind: 'active', untilMs: Infinity }])
    this.trust = withBus ? new ModelTrust(boundMs) : null
    const settings = resolveOptions({
      clock: this.clock, source: this, random: () => 0, expireAfterMs, staleIfErrorMs, loadTimeoutMs: 2000, maxEntries, maxLoads, refreshAfterMs: 4000, negativeTtlMs: 2500
    })
    this.manager = new DatabaseSessionManager(settings, { trust: this.trust, nextTurn: callback => { this.#edge('turn', callback) } })
  }

  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    if (this.#collapses) throw down
    const fails = this.down
    const isProbe = this.manager.gate.isOpen
    const open = batch.map(({ subject }): Open => ({ subject, generation: this.#generationOf(subject), deadline }))
    for (const one of open) {
      if (isProbe) continue
      this.loads++
      for (const other of this.#open) {
        const twin = other.subject === one.subject && other.generation === one.generation && !other.deadline.signal.aborted
        if (twin) this.flaws.push(`I4: two loads of ${one.subject} at once`)
      }
      this.#open.add(one)
    }
    const read = this.#edge('read', () => batch.map(({ subject }) => this.#current(subject)))
    return batch.map(async ({ subject }, index) => {
      const version = (await read)[index]!
      return await this.#edge(`reply ${subject}`, () => {
        this.#open.delete(open[index]!)
        if (fails) throw down
        if (version.kind !== 'active') return { kind: version.kind, revision: version.revision }
        return recordOf(subject, { revision: version.revision }, { userId: String(version.stamp) })
      })
    })
  }

  write (subject: Subject, kind: Version['kind']): void {
    const versions = this.#history.get(subject)!
    const past = versions.at(-1)!
    if (past.kind === 'unknown' && kind === 'unknown') return
    past.untilMs = this.#nowMs
    const stamp = ++this.#stamp
    // A revision starts again when a user is created anew.
    const revision = kind === 'unknown' ? 0 : past.revision + 1
    versions.push({ stamp, revision, kind, untilMs: Infinity })
    const change: UserChange = { kind: 'user', keyHash: hashOf(subject), revision: kind === 'unknown' ? null : revision }
    this.#announce('announcement', () => {
      this.manager.cache.apply(change)
      this.#tell(subject, stamp)
      if (change.revision === null) this.#nextGeneration(subject)
    })
  }

  /** A heartbeat leaves; its echo comes in the order of the queue and proves what was committed before it left. */
  beat (): void {
    const sent = { monotonic: this.clock.monotonic(), now: this.clock.now() }
    this.#announce('echo', () => { this.trust?.prove({ monotonic: () => sent.monotonic, now: () => sent.now }) })
  }

  /** The connection of the bus is lost, with all that it carried; nobody knows yet. */
  cut (): void {
    this.#connected = false
    this.#queue = []
  }

  /** The bus listens again, in a new epoch. */
  reconnect (): void {
    if (this.trust === null) return
    this.cut()
    this.#connected = true
    this.trust.epoch++
    for (const subject of users) this.#nextGeneration(subject)
  }

  invalidateUser (subject: Subject): void {
    this.manager.cache.invalidateUser(keyOf(subject))
    this.#tell(subject, this.#current(subject).stamp)
    this.#nextGeneration(subject)
  }

  invalidateAll (): void {
    this.manager.cache.invalidateAll()
    for (const subject of users) {
      this.#tell(subject, this.#current(subject).stamp)
      this.#nextGeneration(subject)
    }
  }

  /** The database goes down under so many loads that the gate opens. */
  collapse (): void {
    this.down = true
    this.#collapses = true
    for (let batch = 0; batch < 5 && !this.manager.gate.isOpen; batch++) {
      try {
        this.manager.gate.load([{ key: keyOf('a'), issuer, subject: 'a', identity: null }], startDeadline(this.clock, 1))
      } catch { /* As it should. */ }
    }
    this.#collapses = false
  }

  preload (): void {
    this.#wait(this.manager.cache.preload(users.map(keyOf)), users.length)
  }

  renew (): void {
    this.#wait(this.manager.cache.renew({ spreadMs: 0 }), users.length)
  }

  refresh (subject: Subject, force: boolean): void {
    const told = this.#told.get(subject) ?? 0
    const from = this.#current(subject).stamp
    this.#wait(this.manager.cache.refresh(keyOf(subject), { force }).then(record => {
      if (record.kind === 'active' && Number(record.user.userId) < Math.max(told, from)) this.flaws.push(`I1: ${subject} refreshed to what it was before`)
    }).catch((error: unknown) => { if (!(error instanceof SourceUnavailable)) throw error }))
  }

  resolve (identity: Identity, demand: RouteSession): void {
    const { subject } = identity
    const begin = { startedMs: this.#nowMs, told: this.#told.get(subject) ?? 0, shown: this.#shown.get(subject) ?? 0 }
    this.lookups++
    const outcome = this.manager.resolve(identity, demand)
    if (!(outcome instanceof Promise)) this.#judge(subject, outcome, demand, begin)
    else this.#wait(outcome.then(outcome => { this.#judge(subject, outcome, demand, begin) }))
  }

  /** The machine sleeps: of its clocks only the wall clock knows afterwards. */
  sleep (ms: number): void {
    this.#asleepMs += ms
    this.clock.jump(ms)
  }

  checkBounds (): void {
    const stats = this.manager.cache.stats()
    if (stats.entries > maxEntries || stats.negativeEntries > 1) this.flaws.push(`I5: ${stats.entries} and ${stats.negativeEntries} entries`)
    if (stats.inFlight > maxLoads) this.flaws.push(`I5: ${stats.inFlight} loads`)
    if (stats.entries !== stats.stored - stats.evictions - stats.expired - stats.invalidations) this.flaws.push('I5: the counts of entries do not add up')
    if (stats.waiting > this.#pending) this.flaws.push('I5: somebody who was answered is counted as waiting')
  }

  async rest (): Promise<void> {
    // Timers may be what the last ones wait for: patience, gathering, deadlines.
    for (let round = 0; round < 60 && (this.#pending > 0 || this.manager.cache.stats().inFlight > 0); round++) {
      await this.#scheduler.waitIdle()
      this.clock.advance(80)
    }
    await this.#scheduler.waitIdle()
    if (this.#pending > 0) this.flaws.push(`I7: ${this.#pending} are left waiting`)
    const stats = this.manager.cache.stats()
    if (stats.inFlight > 0 || stats.waiting > 0) this.flaws.push('I7: loads are left')
    if (stats.lookups !== this.lookups) this.flaws.push(`${this.lookups} lookups are counted as ${stats.lookups}`)
    if (stats.loads < this.loads) this.flaws.push('I4: a load was not counted')
    if (stats.loads > stats.cacheMisses + stats.staleHits + stats.cacheHits + stats.refreshes + 3 * 50) this.flaws.push('I4: loads that nobody asked for')
    for (const subject of users) this.#compare(subject)
    this.manager.gate.stop()
  }

  /** At rest what is in memory is what the database says, but for what the bus lost. */
  #compare (subject: Subject): void {
    const entry = this.manager.cache.get(keyOf(subject))
    if (entry === null || !this.#connected || (this.trust !== null && entry.epoch !== this.trust.epoch)) return
    const { stamp, revision, kind } = this.#current(subject)
    const same = entry.fresh.kind === 'user' ? entry.fresh.user.userId === String(stamp) : entry.revision === revision && kind !== 'active'
    if (!same) this.flaws.push(`I2: at rest the cache has another ${subject} than the database`)
  }

  #judge (subject: string, outcome: SessionOutcome, demand: RouteSession, begin: Begin): void {
    if (!Object.isFrozen(outcome)) this.flaws.push('I8: the outcome is not frozen')
    if (outcome.kind === 'unavailable') return
    const versions = this.#history.get(subject)!
    if (outcome.kind !== 'user') {
      const possible = versions.some(version => version.kind !== 'active' && version.stamp >= begin.told && version.untilMs >= begin.startedMs - this.#boundMs)
      if (!possible) this.flaws.push(`I1: ${subject} was refused on old news`)
      return
    }
    const stamp = Number(outcome.user.userId)
    if (!Object.isFrozen(outcome.user)) this.flaws.push('I8: the user is not frozen')
    if (stamp < begin.told) this.flaws.push(`I1: ${subject}@${stamp} after the cache was told of @${begin.told}`)
    if (stamp < begin.shown) this.flaws.push(`I3: ${subject}@${stamp} after @${begin.shown} was shown`)
    const { untilMs } = versions.find(version => version.stamp === stamp)!
    const boundMs = Math.min(this.#boundMs, demand.maxStalenessMs ?? Infinity)
    if (!outcome.stale && untilMs < begin.startedMs - boundMs) this.flaws.push(`I6: ${subject} was ${begin.startedMs - untilMs} ms out of date, unmarked`)
    if (outcome.stale && untilMs < this.#nowMs - this.#boundMs - staleIfErrorMs) this.flaws.push(`I6: ${subject} was ${this.#nowMs - untilMs} ms out of date, marked`)
    if (outcome.stale && demand.onUnavailable === 'fail') this.flaws.push('a stale user where the route refuses it')
    this.#shown.set(subject, Math.max(this.#shown.get(subject) ?? 0, stamp))
  }

  get #boundMs (): number {
    return this.trust === null ? expireAfterMs : boundMs
  }

  /** As a clock on the wall of another house has it. */
  get #nowMs (): number {
    return this.clock.monotonic() + this.#asleepMs
  }

  #announce (label: string, deliver: () => void): void {
    if (!this.#connected) return
    const queue = this.#queue
    queue.push(deliver)
    // In the order of the commits, as one connection delivers them.
    this.#edge(label, () => { if (queue === this.#queue) queue.shift()!() })
  }

  #tell (subject: string, stamp: number): void {
    this.#told.set(subject, Math.max(this.#told.get(subject) ?? 0, stamp))
  }

  #generationOf (subject: string): number {
    return this.#generation.get(subject) ?? 0
  }

  #nextGeneration (subject: string): void {
    this.#generation.set(subject, this.#generationOf(subject) + 1)
  }

  #current (subject: string): Version {
    return this.#history.get(subject)!.at(-1)!
  }

  #wait (work: Promise<unknown>, waiters = 1): void {
    this.#pending += waiters
    work.then(() => { this.#pending -= waiters }, (error: unknown) => {
      this.#pending -= waiters
      this.flaws.push(`I7: somebody was told ${String(error)}`)
    })
  }

  #edge<T> (label: string, run: () => T): Promise<T> {
    return this.#scheduler.schedule(Promise.resolve(), label).then(() => {
      const result = run()
      this.checkBounds()
      return result
    })
  }
}
