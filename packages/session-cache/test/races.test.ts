import fc from 'fast-check'
import t from 'tap'
import {
  SourceUnavailable, type Deadline, type Identity, type LoadRequest, type RouteSession, type SessionOutcome, type UserChange, type UserRecord, type UserSource
} from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import { DatabaseSessionManager, resolveOptions } from '../src/core.js'
import { hashOf, identityOf, keyOf, recordOf, route, setup, setupWith } from './fixtures/setup.js'

const down = new SourceUnavailable('The database is down')

t.test('a load that an invalidation by name overtakes answers its waiters and is not stored', async t => {
  const { clock, source, manager, cache } = setup()
  const early = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  t.notOk(cache.invalidateUser(keyOf('ada')))
  const late = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  t.equal(source.calls.length, 2, 'whoever comes after the invalidation needs a load that begins after it')
  source.calls[1]!.answer('ada', recordOf('ada', { revision: 2 }, { email: 'new@example.test' }))
  t.match(await late, { user: { email: 'new@example.test' } })
  source.calls[0]!.answer('ada', recordOf('ada', { revision: 1 }, { email: 'old@example.test' }))
  t.match(await early, { user: { email: 'old@example.test' } })
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', user: { email: 'new@example.test' } })
  t.match(cache.stats(), { loadsOvertaken: 1, stored: 1, loads: 2 })
})

t.test('a load that everything\'s invalidation overtakes answers its waiters and is not stored', async t => {
  const { clock, source, manager, cache } = setup()
  const outcome = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  cache.apply({ kind: 'all' })
  source.last.answer('ada')
  t.match(await outcome, { kind: 'user' })
  t.match(cache.stats(), { entries: 0, loadsOvertaken: 1, stored: 0 })
})

t.test('whoever comes after everything was invalidated needs a load that begins after that', async t => {
  const { clock, source, manager, cache } = setup()
  const early = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  cache.invalidateAll()
  const late = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  t.equal(source.calls.length, 2)
  source.calls[0]!.answer('ada', recordOf('ada', {}, { firstName: 'early' }))
  source.calls[1]!.answer('ada', recordOf('ada', {}, { firstName: 'late' }))
  t.match(await early, { user: { firstName: 'early' } })
  t.match(await late, { user: { firstName: 'late' } })
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', user: { firstName: 'late' } })
})

t.test('what is announced before a load is sent does not concern it', async t => {
  const { clock, source, manager, cache } = setup()
  const outcome = manager.resolve(identityOf('ada'), route)
  cache.invalidateUser(keyOf('ada'))
  cache.invalidateAll()
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 7 })
  const same = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  source.last.answer('ada')
  await Promise.all([outcome, same])
  t.match(cache.stats(), { loads: 1, stored: 1, loadsOvertaken: 0 })
})

t.test('a load is stored when it brings at least the revision that was announced meanwhile', async t => {
  for (const [brought, stored] of [[6, 0], [7, 1], [8, 1]] as const) {
    const { clock, source, manager, cache } = setup()
    const outcome = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 7 })
    cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 5 })
    source.last.answer('ada', recordOf('ada', { revision: brought }))
    t.match(await outcome, { kind: 'user' })
    t.equal(cache.stats().stored, stored, `revision ${brought}`)
  }
})

t.test('whoever comes after an announcement shares the load on its way, unless that brings less than was announced', async t => {
  for (const [brought, loads] of [[7, 1], [6, 2]] as const) {
    const { clock, source, manager, cache } = setup()
    const early = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 7 })
    const late = manager.resolve(identityOf('ada'), route)
    source.last.answer('ada', recordOf('ada', { revision: brought }, { firstName: 'early' }))
    t.match(await early, { user: { firstName: 'early' } })
    await clock.settle()
    if (loads === 2) source.last.answer('ada', recordOf('ada', { revision: 7 }, { firstName: 'late' }))
    t.match(await late, { user: { firstName: loads === 2 ? 'late' : 'early' } })
    t.equal(source.calls.length, loads)
  }
})

t.test('an announcement drops an entry of a lower revision, and is old news to any other', async t => {
  const { source, manager, cache } = await setupWith(['ada'])
  source.reply = () => recordOf('ada', { revision: 7 })
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 1 })
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' })
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 2 })
  t.match(await manager.resolve(identityOf('ada'), route), { from: 'source' })
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 7 })
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' })
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: null })
  t.match(await manager.resolve(identityOf('ada'), route), { from: 'source' })
  cache.apply({ kind: 'user', keyHash: hashOf('stranger'), revision: null })
  t.match(cache.stats(), { invalidations: 2, entries: 1 })
})

t.test('an announcement drops what is remembered of a user who must not pass', async t => {
  const { source, manager, cache } = setup()
  source.reply = () => ({ kind: 'unknown', revision: 0 })
  await manager.resolve(identityOf('ada'), route)
  source.reply = () => recordOf('ada')
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 1 })
  t.match(await manager.resolve(identityOf('ada'), route), { kind: 'user' })
  t.equal(cache.stats().invalidations, 0, 'counted for users only')
})

t.test('fifty requests at once for a user nobody knows are one load', async t => {
  const { clock, source, manager } = setup()
  const outcomes = Array.from({ length: 50 }, () => manager.resolve(identityOf('ada'), route))
  await clock.settle()
  source.last.answer('ada')
  for (const outcome of await Promise.all(outcomes)) t.match(outcome, { kind: 'user' })
  t.match(manager.cache.stats(), { loads: 1, cacheMisses: 50, waiting: 0 })
  t.equal(source.calls.length, 1)
})

// The model: a database of users with every async edge in the hands of fast-check's scheduler. Each write to a user gets the next `stamp`;
// a revision starts again at 1 when a user is created anew. What a read must show is judged by stamps, which the cache does not see.

const users = ['a', 'b', 'c', 'd', 'e']
const expireAfterMs = 5000
const staleIfErrorMs = 8000
const loadTimeoutMs = 2000
const maxEntries = 3

interface Version { readonly stamp: number, readonly revision: number, readonly kind: 'active' | 'inactive' | 'unknown', readonly untilMs: number }
interface Reply { readonly subject: string, readonly startedMs: number, readonly stamp: number }

function unexpected (error: unknown): never {
  throw error
}

class World implements UserSource {
  readonly clock = new ManualClock()
  readonly manager: DatabaseSessionManager
  readonly flaws: string[] = []
  readonly #scheduler: fc.Scheduler
  readonly #history = new Map<string, Version[]>()
  readonly #announcements: UserChange[] = []
  /** The newest stamp that the cache was told of, by announcement or by invalidation. */
  readonly #told = new Map<string, number>()
  readonly #announced: Array<readonly [string, number]> = []
  readonly #replies: Reply[] = []
  readonly #generation = new Map<string, number>()
  readonly #open = new Set<{ readonly subject: string, readonly generation: number, readonly deadline: Deadline }>()
  #stamp = 0
  #pending = 0
  lookups = 0
  down = false

  constructor (scheduler: fc.Scheduler) {
    this.#scheduler = scheduler
    for (const subject of users) this.#history.set(subject, [{ stamp: 0, revision: 1, kind: 'active', untilMs: Infinity }])
    const settings = resolveOptions({
      clock: this.clock, source: this, random: () => 0, expireAfterMs, staleIfErrorMs, loadTimeoutMs, maxEntries, refreshAfterMs: 4000, negativeTtlMs: 3000
    })
    this.manager = new DatabaseSessionManager(settings, { nextTurn: callback => { this.#edge('turn').then(callback, unexpected) } })
  }

  load (batch: readonly LoadRequest[], deadline: Deadline): ReadonlyArray<Promise<UserRecord>> {
    const fails = this.down
    for (const { subject } of batch) {
      const generation = this.#generation.get(subject) ?? 0
      const twin = [...this.#open].some(open => open.subject === subject && open.generation === generation && !open.deadline.signal.aborted)
      if (twin) this.flaws.push(`I4: two loads of ${subject} at once`)
    }
    const read = this.#edge('read').then(() => batch.map(({ subject }) => this.#current(subject)))
    return batch.map(async ({ subject }, index) => {
      const open = { subject, generation: this.#generation.get(subject) ?? 0, deadline }
      this.#open.add(open)
      const version = (await read)[index]!
      await this.#edge(`reply ${subject}`)
      this.#open.delete(open)
      if (fails) throw down
      if (version.kind !== 'active') return { kind: version.kind, revision: version.revision }
      return recordOf(subject, { revision: version.revision }, { userId: String(version.stamp) })
    })
  }

  write (subject: string, kind: Version['kind']): void {
    const versions = this.#history.get(subject)!
    const past = versions.at(-1)!
    if (past.kind === 'unknown' && kind === 'unknown') return
    versions[versions.length - 1] = { ...past, untilMs: this.clock.monotonic() }
    const revision = kind === 'unknown' ? 0 : past.revision + 1
    versions.push({ stamp: ++this.#stamp, revision, kind, untilMs: Infinity })
    this.#announcements.push({ kind: 'user', keyHash: hashOf(subject), revision: kind === 'unknown' ? null : revision })
    this.#announced.push([subject, this.#stamp])
    this.#edge('announcement').then(() => { this.#deliver() }, unexpected)
  }

  invalidateUser (subject: string): void {
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

  preload (): void {
    this.#pending++
    this.manager.cache.preload(users.map(keyOf)).then(() => { this.#pending-- }, unexpected)
  }

  resolve (identity: Identity, demand: RouteSession): void {
    const { subject } = identity
    const startedMs = this.clock.monotonic()
    const told = this.#told.get(subject) ?? 0
    const shown = this.#replies.filter(reply => reply.subject === subject).reduce((newest, reply) => Math.max(newest, reply.stamp), 0)
    this.#pending++
    this.lookups++
    Promise.resolve(this.manager.resolve(identity, demand))
      .then(outcome => { this.#judge(subject, outcome, demand, { startedMs, told, shown }) })
      .catch((error: unknown) => { this.flaws.push(`I7: a waiter was told ${String(error)}`) })
      .then(() => { this.#pending-- }, unexpected)
  }

  checkBounds (): void {
    const stats = this.manager.cache.stats()
    if (stats.entries > maxEntries || stats.negativeEntries > 1) this.flaws.push(`I5: ${stats.entries} and ${stats.negativeEntries} entries`)
    if (stats.entries !== stats.stored - stats.evictions - stats.expired - stats.invalidations) this.flaws.push('I5: the counts do not add up')
  }

  async rest (): Promise<void> {
    // Timers may be what the last ones wait for: patience, gathering, deadlines.
    for (let round = 0; round < 50 && (this.#pending > 0 || this.manager.cache.stats().inFlight > 0); round++) {
      await this.#scheduler.waitIdle()
      this.clock.advance(80)
    }
    await this.#scheduler.waitIdle()
    if (this.#pending > 0) this.flaws.push(`I7: ${this.#pending} waiters are left`)
    const stats = this.manager.cache.stats()
    if (stats.inFlight > 0 || stats.waiting > 0) this.flaws.push('I7: loads are left')
    if (stats.lookups !== this.lookups) this.flaws.push('lookups are not counted once each')
    for (const subject of users) {
      const entry = this.manager.cache.get(keyOf(subject))
      if (entry === null) continue
      const { stamp, revision, kind } = this.#current(subject)
      const same = entry.fresh.kind === 'user' ? entry.fresh.user.userId === String(stamp) : entry.revision === revision && kind !== 'active'
      if (!same) this.flaws.push(`I2: at rest the cache has another ${subject} than the database`)
    }
  }

  #judge (subject: string, outcome: SessionOutcome, demand: RouteSession, begin: { readonly startedMs: number, readonly told: number, readonly shown: number }): void {
    const nowMs = this.clock.monotonic()
    if (!Object.isFrozen(outcome)) this.flaws.push('I8: the outcome is not frozen')
    if (outcome.kind === 'unavailable') return
    if (outcome.kind !== 'user') {
      const possible = this.#history.get(subject)!.some(version => version.kind !== 'active' && version.stamp >= begin.told)
      if (!possible) this.flaws.push(`I1: ${subject} was refused on old news`)
      return
    }
    const stamp = Number(outcome.user.userId)
    if (!Object.isFrozen(outcome.user)) this.flaws.push('I8: the user is not frozen')
    if (stamp < begin.told) this.flaws.push(`I1: ${subject}@${stamp} after the cache was told of @${begin.told}`)
    if (stamp < begin.shown) this.flaws.push(`I3: ${subject}@${stamp} after @${begin.shown} was shown`)
    const { untilMs } = this.#history.get(subject)!.find(version => version.stamp === stamp)!
    const bound = Math.min(expireAfterMs, demand.maxStalenessMs ?? Infinity)
    if (!outcome.stale && untilMs < begin.startedMs - bound) this.flaws.push(`I6: ${subject} was ${begin.startedMs - untilMs} ms out of date, unmarked`)
    if (outcome.stale && untilMs < nowMs - expireAfterMs - staleIfErrorMs) this.flaws.push(`I6: ${subject} was out of date beyond S`)
    if (outcome.stale && demand.onUnavailable === 'fail') this.flaws.push('a stale user where the route refuses it')
    this.#replies.push({ subject, startedMs: begin.startedMs, stamp })
  }

  #deliver (): void {
    // In the order of the commits, as one connection delivers them.
    const change = this.#announcements.shift()!
    const [subject, stamp] = this.#announced.shift()!
    this.manager.cache.apply(change)
    this.#tell(subject, stamp)
    if (change.kind === 'user' && change.revision === null) this.#nextGeneration(subject)
  }

  #tell (subject: string, stamp: number): void {
    this.#told.set(subject, Math.max(this.#told.get(subject) ?? 0, stamp))
  }

  #nextGeneration (subject: string): void {
    this.#generation.set(subject, (this.#generation.get(subject) ?? 0) + 1)
  }

  #current (subject: string): Version {
    return this.#history.get(subject)!.at(-1)!
  }

  #edge (label: string): Promise<void> {
    return this.#scheduler.schedule(Promise.resolve(), label).then(() => { this.checkBounds() })
  }
}

type Operation = readonly [label: string, run: (world: World) => void]

/** Kinds of operations on the first so many users. Each run draws from a few of the kinds only: all of them at once rarely meet on one user. */
function operations (population: number): { readonly resolve: fc.Arbitrary<Operation>, readonly others: ReadonlyArray<fc.Arbitrary<Operation>> } {
  const subject = fc.constantFrom(...users.slice(0, population))
  const demanding = (text: string, demand: Partial<RouteSession>): fc.Arbitrary<Operation> =>
    subject.map(user => [`resolve ${user} ${text}`, world => { world.resolve(identityOf(user), { ...route, ...demand }) }])
  return {
    resolve: demanding('', {}),
    others: [
      demanding('within 1 s or fail', { maxStalenessMs: 1000, onUnavailable: 'fail' }),
      demanding('from now', { maxStalenessMs: 0 }),
      fc.tuple(subject, fc.nat({ max: 3 })).map(([user, hint]) => [`resolve ${user} claiming ${hint}`, world => { world.resolve(identityOf(user, { providerUpdatedAt: hint }), route) }]),
      subject.map(user => [`write ${user}`, world => { world.write(user, 'active') }]),
      fc.tuple(subject, fc.constantFrom<Version['kind']>('active', 'inactive', 'unknown')).map(([user, kind]) => [`write ${user} ${kind}`, world => { world.write(user, kind) }]),
      subject.map(user => [`invalidate ${user}`, world => { world.invalidateUser(user) }]),
      fc.constant(['invalidate all', world => { world.invalidateAll() }]),
      fc.constant(['preload', world => { world.preload() }]),
      fc.boolean().map(down => [`database ${down ? 'down' : 'up'}`, world => { world.down = down }]),
      fc.constantFrom(1, 30, 80, 900, 1900, 4100, 6000, 14_000).map(ms => [`advance ${ms} ms`, world => { world.clock.advance(ms) }]),
      fc.constantFrom(-60_000, 2000, 60_000).map(ms => [`jump ${ms} ms`, world => { world.clock.jump(ms) }]),
      fc.constant(['sweep', world => { world.manager.cache.sweep(2) }])
    ]
  }
}

const runs = fc.integer({ min: 1, max: users.length }).chain(population => {
  const { resolve, others } = operations(population)
  return fc.subarray([...others], { minLength: 1, maxLength: 5 }).chain(kinds => fc.array(fc.oneof(resolve, ...kinds), { minLength: 3, maxLength: 20 }))
})

t.test('no schedule of loads, changes, failures and clocks breaks a promise', async t => {
  const numRuns = Number(process.env['ORIENTOR_SCHEDULES'] ?? 1500)
  let lookups = 0
  await fc.assert(fc.asyncProperty(fc.scheduler(), runs, async (scheduler, operations) => {
    const world = new World(scheduler)
    const { task } = scheduler.scheduleSequence(operations.map(([label, run]) => ({
      label,
      builder: async () => {
        run(world)
        world.checkBounds()
      }
    })))
    await scheduler.waitFor(task)
    await world.rest()
    lookups += world.lookups
    if (world.flaws.length > 0) throw new Error(world.flaws.join('\n'))
  }), { numRuns })
  t.ok(lookups > numRuns)
})
