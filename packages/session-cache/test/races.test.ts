import t from 'tap'
import { SourceUnavailable } from '@orientor/session-contract/core'
import { ModelTrust } from './fixtures/model-trust.js'
import { hashOf, identityOf, keyOf, recordOf, route, setup, setupWith } from './fixtures/setup.js'

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
  t.match(cache.stats(), { loadsOvertaken: 1, stored: 1, loads: 2, entries: 0 }, 'nor is what disagrees with it kept')
  const next = manager.resolve(identityOf('ada'), route)
  await clock.settle()
  source.last.answer('ada', recordOf('ada', { revision: 2 }, { email: 'new@example.test' }))
  t.match(await next, { user: { email: 'new@example.test' } })
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

t.test('an announcement drops what was loaded in an epoch of the bus that has ended, whatever its revision', async t => {
  for (const record of [recordOf('ada', { revision: 7 }), { kind: 'inactive', revision: 7 }, { kind: 'deleted', revision: 7 }] as const) {
    const trust = new ModelTrust(5000)
    const { source, manager, cache } = setup({}, trust)
    source.reply = () => record
    const announce = (revision: number): void => { cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision }) }
    await manager.resolve(identityOf('ada'), route)
    announce(7)
    t.not(cache.get(keyOf('ada')), null, `${record.kind}: old news in its epoch`)
    trust.epoch++
    t.not(cache.get(keyOf('ada')), null, `${record.kind}: as long as nothing is said`)
    announce(2)
    t.equal(cache.get(keyOf('ada')), null, record.kind)
    await manager.resolve(identityOf('ada'), route)
    announce(7)
    t.not(cache.get(keyOf('ada')), null, `${record.kind}: old news in the new epoch`)
    announce(8)
    t.equal(cache.get(keyOf('ada')), null, record.kind)
  }
})

t.test('a user from before a deletion that was not announced is not served again, marked neither, once the one created anew was announced', async t => {
  const trust = new ModelTrust(5000)
  const { clock, source, manager, cache } = setup({ staleIfErrorMs: 60_000 }, trust)
  source.reply = () => recordOf('ada', { revision: 5 }, { firstName: 'before' })
  await manager.resolve(identityOf('ada'), route)
  trust.prove(clock)
  // Bus and source are down; the user is deleted and created anew; the bus is back, and the new user is changed.
  source.reply = () => { throw new SourceUnavailable('down') }
  clock.advance(6000)
  t.match(await manager.resolve(identityOf('ada'), route), { stale: true, user: { firstName: 'before' } }, 'until then nothing else is known')
  trust.epoch++
  trust.prove(clock)
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 2 })
  t.match(await manager.resolve(identityOf('ada'), route), { kind: 'unavailable' })
})

t.test('without a bus an announcement whose revision is known stays old news', async t => {
  const { clock, manager, cache } = await setupWith(['ada'])
  clock.advance(60_000)
  cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 1 })
  t.match(manager.resolve(identityOf('ada'), { ...route, maxStalenessMs: null }), { from: 'cache' })
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
