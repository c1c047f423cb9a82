import t from 'tap'
import { SourceUnavailable, type RouteSession } from '@orientor/session-contract/core'
import { DatabaseSessionManager, resolveOptions } from '../src/core.js'
import { checkLoadTimeout } from '../src/options.js'
import { ModelTrust } from './fixtures/model-trust.js'
import { hashOf, identityOf, keyOf, recordOf, route, setup, setupWith, type Bundle } from './fixtures/setup.js'

const boundMs = 5000
const down = new SourceUnavailable('The database is down')
const failing: RouteSession = { ...route, onUnavailable: 'fail' }

function trusted (clock: Bundle['clock'], trust: ModelTrust): ModelTrust {
  trust.prove(clock)
  return trust
}

t.test('a user is served without a load for as long as the bus proves that nothing changed', async t => {
  const trust = new ModelTrust(boundMs)
  const { clock, source, manager } = await setupWith(['ada'], {}, trust)
  for (let second = 0; second < 700; second++) {
    clock.advance(1000)
    trust.prove(clock)
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', stale: false })
  }
  await clock.settle()
  t.equal(source.calls.length, 0)
})

t.test('while nothing is proven a user in constant use is loaded behind the hits, once from 0.8 of B on', async t => {
  const { clock, source, manager } = await setupWith(['ada'], {}, new ModelTrust(boundMs))
  source.reply = request => recordOf(request.subject)
  for (let tick = 0; tick < 100; tick++) {
    clock.advance(100)
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', stale: false })
    await clock.settle()
  }
  t.equal(source.calls.length, 2, 'in 10 s')
})

t.test('from B after the last proof on a user needs a load, and is served marked on error until S after that', async t => {
  const trust = new ModelTrust(boundMs)
  const { clock, source, manager } = await setupWith(['ada'], { staleIfErrorMs: 60_000 }, trust)
  source.reply = () => { throw down }
  clock.advance(100_000)
  trusted(clock, trust)
  clock.advance(boundMs - 1)
  t.match(manager.resolve(identityOf('ada'), route), { stale: false })
  await clock.settle()
  clock.advance(1)
  t.match(await manager.resolve(identityOf('ada'), route), { stale: true, from: 'cache' })
  t.match(await manager.resolve(identityOf('ada'), failing), { kind: 'unavailable' })
  trust.epoch++
  clock.advance(59_999)
  t.match(await manager.resolve(identityOf('ada'), route), { stale: true }, 'the last proof of its own epoch counts')
  clock.advance(1)
  t.match(await manager.resolve(identityOf('ada'), route), { kind: 'unavailable' })
  t.match(manager.cache.stats(), { missesStaleness: 1, missesEpoch: 1, expired: 1 })
})

t.test('a user of an epoch that ended is suspect from B after the load on, a user of the new one is covered by its proofs', async t => {
  const trust = new ModelTrust(boundMs)
  const { clock, source, manager } = await setupWith(['ada'], {}, trust)
  clock.advance(10_000)
  trusted(clock, trust)
  trust.epoch++
  trusted(clock, trust)
  source.reply = () => recordOf('ada', { revision: 2 })
  t.match(await manager.resolve(identityOf('ada'), route), { from: 'source' })
  t.equal(manager.cache.stats().missesEpoch, 1)
  clock.advance(100_000)
  trusted(clock, trust)
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', stale: false })
})

t.test('a load that read where the bus proves nothing answers its waiters, is not stored, and leaves what is there unless that is of before', async t => {
  for (const record of [recordOf('ada', { revision: 1 }), recordOf('ada', { revision: 2 }), { kind: 'inactive', revision: 1 }, { kind: 'unknown', revision: 0 }] as const) {
    const trust = new ModelTrust(boundMs)
    trust.marks = new Set(['here', 'here too'])
    const { source, manager, cache } = setup({}, trust)
    const kind = record.kind === 'active' ? 'user' : record.kind === 'inactive' ? 'forbidden' : 'refused'
    source.reply = () => ({ ...record, readMark: 'there' })
    t.match(await manager.resolve(identityOf('ada'), route), { kind })
    t.match(await manager.resolve(identityOf('ada'), route), { kind })
    t.match(cache.stats(), { loads: 2, loadsElsewhere: 2, loadsOvertaken: 0, stored: 0, entries: 0, negativeEntries: 0 })
    source.reply = () => recordOf('ada', { readMark: 'here too' }, { firstName: 'here' })
    const outcome = await manager.resolve(identityOf('ada'), route)
    t.notOk(JSON.stringify(outcome).includes('here too'), 'no outcome tells the mark')
    source.reply = () => ({ ...record, readMark: 'there' })
    t.match(await manager.resolve(identityOf('ada'), { ...route, maxStalenessMs: 0 }), { kind })
    if (record.revision === 2) {
      // A user who was shown does not go back.
      t.match(cache.stats(), { loadsElsewhere: 3, stored: 1, entries: 0 })
    } else {
      t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', user: { firstName: 'here' } })
      t.match(cache.stats(), { loadsElsewhere: 3, stored: 1, replaced: 0, invalidations: 0 })
    }
  }
})

t.test('a load is stored where the source does not tell where it read, or the bus does not compare', async t => {
  for (const [marks, readMark] of [[new Set(['here']), undefined], [null, 'there'], [null, undefined]] as const) {
    const trust = new ModelTrust(boundMs)
    trust.marks = marks
    const { source, manager, cache } = setup({}, trust)
    source.reply = () => recordOf('ada', readMark === undefined ? {} : { readMark })
    await manager.resolve(identityOf('ada'), route)
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' })
    t.match(cache.stats(), { loadsElsewhere: 0, stored: 1 })
  }
  const { source, manager } = setup()
  source.reply = () => recordOf('ada', { readMark: 'there' })
  await manager.resolve(identityOf('ada'), route)
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' }, 'nor without a bus')
})

t.test('a load that an epoch ended under is overtaken, though it read where the new epoch proves nothing', async t => {
  const trust = new ModelTrust(boundMs)
  trust.marks = new Set(['before'])
  const { clock, source, manager, cache } = setup({}, trust)
  source.reply = () => recordOf('ada', { readMark: 'before' }, { firstName: 'old' })
  await manager.resolve(identityOf('ada'), route)
  source.reply = null
  const fresh = manager.resolve(identityOf('ada'), { ...route, maxStalenessMs: 0 })
  await clock.settle()
  trust.epoch++
  trust.marks = new Set(['after'])
  source.last.answer('ada', recordOf('ada', { revision: 2, readMark: 'before' }, { firstName: 'new' }))
  t.match(await fresh, { user: { firstName: 'new' } })
  t.match(cache.stats(), { loadsOvertaken: 1, loadsElsewhere: 0, entries: 0 }, 'a user of before is not shown after it')
})

t.test('a load that an epoch ends under answers its waiters and is not stored, and is not shared any more', async t => {
  const trust = new ModelTrust(boundMs)
  const { clock, source, manager } = setup({}, trust)
  const early = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  trust.epoch++
  const late = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  t.equal(source.calls.length, 2)
  source.calls[1]!.answer('ada', recordOf('ada', { revision: 2 }, { firstName: 'late' }))
  t.match(await late, { user: { firstName: 'late' } })
  source.calls[0]!.answer('ada', recordOf('ada', { revision: 2 }, { firstName: 'early' }))
  t.match(await early, { user: { firstName: 'early' } })
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', user: { firstName: 'late' } })
  t.match(manager.cache.stats(), { loadsOvertaken: 1, stored: 1 })
})

t.test('a user of before is not shown after one whose load an epoch ended under', async t => {
  for (const [brought, from] of [[2, 'source'], [1, 'cache']] as const) {
    const trust = new ModelTrust(boundMs)
    const { clock, source, manager } = await setupWith(['ada'], {}, trust)
    const fresh = manager.resolve(identityOf('ada'), { ...route, maxStalenessMs: 0 })
    await clock.settle()
    trust.epoch++
    source.last.answer('ada', recordOf('ada', { revision: brought }, { firstName: 'new' }))
    t.match(await fresh, { user: { firstName: 'new' } })
    source.reply = () => recordOf('ada', { revision: brought }, { firstName: 'new' })
    t.match(await manager.resolve(identityOf('ada'), route), { from }, 'a user of another revision leaves memory with it')
  }
})

t.test('a user of before is not shown after one of a load that outlived two epochs, and read later than the load that is stored', async t => {
  const trust = new ModelTrust(boundMs)
  const { clock, source, manager } = setup({}, trust)
  const long = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  trust.epoch++
  const short = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  source.calls[1]!.answer('ada', recordOf('ada', { revision: 1 }))
  t.match(await short, { kind: 'user' })
  trust.epoch++
  source.calls[0]!.answer('ada', recordOf('ada', { revision: 2 }, { firstName: 'new' }))
  t.match(await long, { user: { firstName: 'new' } })
  source.reply = () => recordOf('ada', { revision: 2 }, { firstName: 'new' })
  t.match(await manager.resolve(identityOf('ada'), route), { from: 'source', user: { firstName: 'new' } })
})

t.test('a load on its way must bring as much as was shown of one that was overtaken and ended before it', async t => {
  for (const [brought, loads] of [[1, 3], [2, 2]] as const) {
    const { clock, source, manager, cache } = setup({}, new ModelTrust(boundMs))
    const long = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    cache.invalidateAll()
    const short = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    source.calls[0]!.answer('ada', recordOf('ada', { revision: 2 }))
    await long
    const after = manager.resolve(identityOf('ada'), route)
    source.calls[1]!.answer('ada', recordOf('ada', { revision: brought }))
    await short
    await clock.settle()
    if (loads === 3) source.last.answer('ada', recordOf('ada', { revision: 2 }))
    t.match(await after, { kind: 'user' })
    t.equal(source.calls.length, loads, 'it is shared only where it does')
    t.equal(cache.get(keyOf('ada'))?.revision, 2)
  }
})

t.test('after an epoch ended what the database says is taken, even when it is older', async t => {
  const trust = new ModelTrust(boundMs)
  const { source, manager, cache, clock } = await setupWith(['ada'], {}, trust)
  source.reply = () => recordOf('ada', { revision: 9 })
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 9 })
  await manager.resolve(identityOf('ada'), route)
  trust.epoch++
  clock.advance(boundMs)
  source.reply = () => recordOf('ada', { revision: 8 }, { firstName: 'after a failover' })
  t.match(await manager.resolve(identityOf('ada'), route), { user: { firstName: 'after a failover' } })
  t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', user: { firstName: 'after a failover' } })
})

t.test('a waiter is not answered by a load that is as old as B when it comes', async t => {
  const { clock, source, manager } = setup({ loadTimeoutMs: 4999 }, new ModelTrust(boundMs))
  const early = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  clock.jump(boundMs)
  const late = manager.resolve(identityOf('ada'), route)
  source.last.answer('ada', recordOf('ada', {}, { firstName: 'early' }))
  t.match(await early, { user: { firstName: 'early' } })
  await clock.settle()
  source.last.answer('ada', recordOf('ada', {}, { firstName: 'late' }))
  t.match(await late, { user: { firstName: 'late' } })
})

t.test('a user who must not pass is remembered for negativeTtlMs, or B if that is less', async t => {
  const { clock, source, manager } = setup({ negativeTtlMs: 60_000 }, new ModelTrust(boundMs))
  source.reply = () => ({ kind: 'inactive', revision: 1 })
  await manager.resolve(identityOf('ada'), route)
  clock.advance(boundMs - 1)
  t.match(manager.resolve(identityOf('ada'), route), { kind: 'forbidden' })
  clock.advance(1)
  source.reply = () => recordOf('ada')
  t.match(await manager.resolve(identityOf('ada'), route), { kind: 'user' })
})

t.test('a load may not take as long as B', async t => {
  const manager = (loadTimeoutMs: number): DatabaseSessionManager => new DatabaseSessionManager(resolveOptions({ loadTimeoutMs }), { trust: new ModelTrust(boundMs) })
  t.throws(() => manager(5000), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /"loadTimeoutMs" must be below maxStalenessMs \(5000\).*received 5000/ })
  t.ok(manager(4999))
  t.doesNotThrow(() => { checkLoadTimeout(1, 2) })
})

t.test('renewal', async t => {
  const users = (count: number): string[] => Array.from({ length: count }, (_, index) => `user-${index}`)

  t.test('ten thousand users of an epoch that ended are loaded anew in 20 batches, two at once, those in use first', async t => {
    const trust = new ModelTrust(boundMs)
    const { clock, source, manager, cache } = await setupWith(users(10_000), { maxEntries: 10_000 }, trust)
    for (const subject of users(10_000).slice(9000)) manager.resolve(identityOf(subject), route)
    trust.epoch++
    let running = 0
    let most = 0
    source.reply = async request => {
      await clock.settle(2)
      return recordOf(request.subject, { revision: 2 })
    }
    const load = source.load.bind(source)
    source.load = (batch, deadline) => {
      most = Math.max(most, ++running)
      const replies = load(batch, deadline)
      Promise.allSettled(replies).finally(() => { running-- })
      return replies
    }
    const renewed = cache.renew({ spreadMs: 0 })
    t.same(await pumped(clock, renewed), { loaded: 10_000, failed: 0 })
    t.equal(source.calls.length, 20)
    t.ok(most <= 2, `${most} at once`)
    t.same(new Set(source.calls.slice(0, 2).flatMap(call => call.subjects)), new Set(users(10_000).slice(9000)))
    trusted(clock, trust)
    clock.advance(4000)
    t.match(manager.resolve(identityOf('user-1'), route), { from: 'cache', stale: false })
    t.same(await pumped(clock, cache.renew()), { loaded: 0, failed: 0 }, 'nothing is left to do')
  })

  t.test('it begins after a random part of its spread', async t => {
    const trust = new ModelTrust(boundMs)
    const { clock, source, cache } = await setupWith(['ada'], { random: () => 0.5 }, trust)
    source.reply = request => recordOf(request.subject)
    trust.epoch++
    const renewed = cache.renew()
    clock.advance(249)
    await clock.settle()
    t.equal(source.calls.length, 0)
    clock.advance(1)
    t.same(await renewed, { loaded: 1, failed: 0 })
  })

  t.test('it loads no more than it is told, and ends when the epoch changes again or the cache is closed', async t => {
    const trust = new ModelTrust(boundMs)
    const { clock, source, cache } = await setupWith(users(2000), {}, trust)
    source.reply = request => recordOf(request.subject)
    trust.epoch++
    t.same(await pumped(clock, cache.renew({ spreadMs: 0, maxUsers: 700, maxBatches: 1 })), { loaded: 700, failed: 0 })
    t.same(source.calls.map(call => call.requests.length), [500, 200])
    trust.epoch++
    source.reply = request => {
      trust.epoch = 9
      return recordOf(request.subject)
    }
    const { loaded, failed } = await pumped(clock, cache.renew({ spreadMs: 0, maxBatches: 1 }))
    t.equal(loaded, 0)
    t.equal(failed, 500)
    await cache.close()
    t.same(await pumped(clock, cache.renew({ spreadMs: 0 })), { loaded: 0, failed: 0 })
  })

  t.test('users who cannot be loaded stay as they are', async t => {
    const trust = new ModelTrust(boundMs)
    const { clock, source, manager, cache } = await setupWith(['ada'], {}, trust)
    trust.epoch++
    source.reply = () => { throw down }
    t.same(await pumped(clock, cache.renew()), { loaded: 0, failed: 1 })
    clock.advance(boundMs)
    t.match(await manager.resolve(identityOf('ada'), route), { stale: true })
    t.ok(cache.get(keyOf('ada')))
  })
})

/** Fires what is due now until the promise has settled. */
async function pumped<T> (clock: Bundle['clock'], promise: Promise<T>): Promise<T> {
  const turn = async (): Promise<null> => {
    clock.advance(0)
    await clock.settle(1)
    return null
  }
  for (;;) {
    const settled = await Promise.race([promise.then(value => ({ value })), turn()])
    if (settled !== null) return settled.value
  }
}
