import fc from 'fast-check'
import t from 'tap'
import { ManualClock } from '@orientor/test-kit'
import { DatabaseSessionManager, resolveOptions } from '../src/core.js'
import { HandSource, hashOf, identityOf, keyOf, recordOf, route } from './fixtures/setup.js'

const expireAfterMs = 1000

/** What a cache is without time's and memory's limits on loads: a Map, and a database beside it. */
interface Model { readonly database: Map<string, number>, readonly memory: Map<string, { readonly revision: number, readonly loadedAtMs: number }> }
interface Real { readonly clock: ManualClock, readonly manager: DatabaseSessionManager, readonly database: Map<string, number> }
type Command = fc.AsyncCommand<Model, Real>

function command (label: string, run: (model: Model, real: Real) => void | Promise<void>): Command {
  return { check: () => true, run: async (model, real) => { await run(model, real) }, toString: () => label }
}

function same (actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)} instead of ${String(expected)}`)
}

const subject = fc.constantFrom('a', 'b', 'c', 'd')
const commands = (maxEntries: number): Array<fc.Arbitrary<Command>> => [
  subject.map(user => command(`resolve ${user}`, async (model, { clock, manager }) => {
    const known = model.memory.get(user)
    const isFresh = known !== undefined && clock.monotonic() - known.loadedAtMs < expireAfterMs
    const before = manager.stats()
    const outcome = await manager.resolve(identityOf(user), route)
    if (outcome.kind !== 'user') throw new Error(outcome.kind)
    const fromCache = outcome.from === 'cache'
    // Where room is short the cache may know less than a Map, never more.
    if (maxEntries >= 4) same(fromCache, isFresh, 'from the cache')
    else if (fromCache) same(isFresh, true, 'fresh')
    same(outcome.user.userId, String(fromCache ? known!.revision : model.database.get(user)), 'revision')
    same(manager.stats().loads - before.loads, fromCache ? 0 : 1, 'loads')
    if (!fromCache) model.memory.set(user, { revision: model.database.get(user)!, loadedAtMs: clock.monotonic() })
  })),
  subject.map(user => command(`write ${user}, told`, (model, { manager, database }) => {
    const revision = model.database.get(user)! + 1
    database.set(user, revision)
    model.database.set(user, revision)
    model.memory.delete(user)
    manager.cache.apply({ kind: 'user', keyHash: hashOf(user), revision })
  })),
  subject.map(user => command(`write ${user}, not told`, (model, { database }) => {
    const revision = model.database.get(user)! + 1
    database.set(user, revision)
    model.database.set(user, revision)
  })),
  subject.map(user => command(`invalidate ${user}`, (model, { manager }) => {
    const known = model.memory.delete(user)
    const dropped = manager.cache.invalidateUser(keyOf(user))
    if (maxEntries >= 4) same(dropped, known, 'was known')
  })),
  fc.constant(command('invalidate all', (model, { manager }) => {
    if (maxEntries >= 4) same(manager.cache.invalidateAll(), model.memory.size, 'dropped')
    else manager.cache.invalidateAll()
    model.memory.clear()
  })),
  fc.integer({ min: 1, max: 600 }).map(ms => command(`advance ${ms} ms`, (_model, { clock }) => { clock.advance(ms) })),
  fc.constant(command('count', (model, { manager }) => {
    const { entries, stored, evictions, expired, invalidations } = manager.stats()
    if (maxEntries >= 4) same(entries, model.memory.size, 'entries')
    same(entries <= maxEntries, true, 'within the bound')
    same(entries, stored - evictions - expired - invalidations, 'the counts add up')
  }))
]

for (const maxEntries of [10, 2]) {
  t.test(`with room for ${maxEntries} of 4 users the cache does what a Map does${maxEntries < 4 ? ', and forgets some' : ''}`, async t => {
    await fc.assert(fc.asyncProperty(fc.commands(commands(maxEntries), { maxCommands: 30 }), async happening => {
      const database = new Map(['a', 'b', 'c', 'd'].map(user => [user, 1]))
      const source = new HandSource()
      source.reply = request => recordOf(request.subject, { revision: database.get(request.subject)! }, { userId: String(database.get(request.subject)) })
      const clock = new ManualClock()
      const settings = resolveOptions({ clock, source, random: () => 0, maxEntries, expireAfterMs, refreshAfterMs: expireAfterMs })
      const manager = new DatabaseSessionManager(settings, { nextTurn: queueMicrotask })
      await fc.asyncModelRun(() => ({ model: { database: new Map(database), memory: new Map() }, real: { clock, manager, database } }), happening)
    }), { numRuns: 200 })
    t.pass('200 runs')
  })
}
