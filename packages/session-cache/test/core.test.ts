import { createHook } from 'node:async_hooks'
import t, { type Test } from 'tap'
import {
  revoked, SourceUnavailable,
  type Identity, type LoadRequest, type RouteSession, type SessionOutcome, type UserRecord, type UserSource
} from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import { ageOf, cacheInstruments, channels, Cleanup, errors, freshnessOf, LoadBatcher, resolveOptions, type Ageing } from '../src/core.js'
import { checkedRecord } from '../src/checked-record.js'
import { jitteredDown } from '../src/freshness.js'
import { ModelTrust } from './fixtures/model-trust.js'
import { HandSource, hashOf, identityOf, issuer, keyOf, recordOf, route, setup, setupWith } from './fixtures/setup.js'

const down = new SourceUnavailable('The database is down', { retryAfterMs: 700 })
const bounded = (maxStalenessMs: number): RouteSession => ({ ...route, maxStalenessMs })
const failing: RouteSession = { ...route, onUnavailable: 'fail' }

function isPromise (value: unknown): value is Promise<SessionOutcome> {
  return value instanceof Promise
}

t.test('freshness', async t => {
  const entry: Ageing = { loadedAtMs: 1000, loadedWallMs: 50_000, epoch: 1, refreshAfterMs: 80, expireAfterMs: 100, staleIfErrorMs: 50 }
  /** As both clocks stand `ageMs` after the load. */
  const at = (ageMs: number): [number, number] => [1000 + ageMs, 50_000 + ageMs]
  const prove = (trust: ModelTrust, ageMs: number): ModelTrust => {
    trust.prove({ monotonic: () => 1000 + ageMs, now: () => 50_000 + ageMs })
    return trust
  }

  t.test('an age is the larger of what the two clocks say', async t => {
    t.equal(ageOf(entry, 1010, 50_010), 10)
    t.equal(ageOf(entry, 1010, 50_900), 900, 'suspended: the monotonic clock stood still')
    t.equal(ageOf(entry, 1010, 40_000), 10, 'set back: the wall clock says nothing')
  })

  t.test('without a bus each bound of age belongs to the worse side', async t => {
    const expected = [[79.9, 'fresh'], [80, 'due'], [99.9, 'due'], [100, 'suspect'], [149.9, 'suspect'], [150, 'dead']] as const
    for (const [ageMs, freshness] of expected) t.equal(freshnessOf(entry, null, null, ...at(ageMs)), freshness, `${ageMs} ms`)
    t.equal(freshnessOf({ ...entry, staleIfErrorMs: 0 }, null, null, ...at(100)), 'dead')
  })

  t.test('a route tightens the bound and never loosens it', async t => {
    t.equal(freshnessOf(entry, null, 10, ...at(9)), 'fresh')
    t.equal(freshnessOf(entry, null, 10, ...at(10)), 'suspect')
    t.equal(freshnessOf(entry, null, 0, ...at(0)), 'suspect')
    t.equal(freshnessOf(entry, null, 1000, ...at(120)), 'suspect')
    t.equal(freshnessOf(entry, null, 1000, ...at(150)), 'dead')
  })

  t.test('while a bus has proven nothing an entry is fresh until B after its load was sent', async t => {
    const trust = new ModelTrust(20)
    const expected = [[15.9, 'fresh'], [16, 'due'], [19.9, 'due'], [20, 'suspect'], [69.9, 'suspect'], [70, 'dead']] as const
    for (const [ageMs, freshness] of expected) t.equal(freshnessOf(entry, trust, null, ...at(ageMs)), freshness, `${ageMs} ms`)
  })

  t.test('a proof of its epoch keeps an entry fresh until B after the proof, and never beyond expireAfterMs', async t => {
    const trust = prove(new ModelTrust(20), 50)
    const expected = [[50, 'fresh'], [65.9, 'fresh'], [66, 'due'], [69.9, 'due'], [70, 'suspect'], [119.9, 'suspect'], [120, 'dead']] as const
    for (const [ageMs, freshness] of expected) t.equal(freshnessOf(entry, trust, null, ...at(ageMs)), freshness, `${ageMs} ms`)
    t.equal(freshnessOf(entry, prove(trust, 99), null, ...at(99.9)), 'due')
    t.equal(freshnessOf(entry, trust, null, ...at(100)), 'suspect')
    t.equal(freshnessOf(entry, prove(trust, 149), null, ...at(149.9)), 'suspect')
    t.equal(freshnessOf(entry, trust, null, ...at(150)), 'dead', 'staleIfErrorMs after it was fresh for the last time')
  })

  t.test('a proof that is older than the load makes nothing older', async t => {
    t.equal(freshnessOf(entry, prove(new ModelTrust(20), -500), null, ...at(15)), 'fresh')
  })

  t.test('a route\'s bound is met by a proof as by a load', async t => {
    const trust = prove(new ModelTrust(20), 50)
    t.equal(freshnessOf(entry, trust, 5, ...at(54.9)), 'fresh')
    t.equal(freshnessOf(entry, trust, 5, ...at(55)), 'suspect')
    t.equal(freshnessOf(entry, trust, 0, ...at(50)), 'suspect')
  })

  t.test('the age of a proof is the larger of what the two clocks say', async t => {
    const trust = prove(new ModelTrust(20), 50)
    t.equal(freshnessOf(entry, trust, null, 1050, 50_069), 'due')
    t.equal(freshnessOf(entry, trust, null, 1050, 50_070), 'suspect')
    t.equal(freshnessOf(entry, trust, null, 1069, 40_000), 'due')
    t.equal(freshnessOf(entry, trust, null, 1070, 40_000), 'suspect')
  })

  t.test('the proofs of another epoch keep nothing fresh, but the last one of its own lets an entry be served on error for longer', async t => {
    const trust = prove(new ModelTrust(20), 10)
    trust.epoch = 2
    prove(trust, 30)
    const expected = [[19.9, 'due'], [20, 'suspect'], [79.9, 'suspect'], [80, 'dead']] as const
    for (const [ageMs, freshness] of expected) t.equal(freshnessOf(entry, trust, null, ...at(ageMs)), freshness, `${ageMs} ms`)
    t.equal(freshnessOf({ ...entry, epoch: 0 }, trust, null, ...at(70)), 'dead', 'an epoch that proved nothing')
  })

  t.test('jitter only ever shortens, by a tenth at most', async t => {
    t.equal(jitteredDown(1000, 0), 1000)
    t.equal(jitteredDown(1000, 1), 900)
  })
})

t.test('records', async t => {
  const request: LoadRequest = { key: keyOf('ada'), issuer, subject: 'ada', identity: null }
  const check = (value: unknown): UserRecord => checkedRecord(value, request)
  const secret = 'personal@example.test'

  t.test('a whole record passes and is frozen through and through', async t => {
    const record = check(recordOf('ada', { revokedSessions: ['s1'] }, { profile: { teams: ['a'] } as object }))
    t.ok(Object.isFrozen(record))
    t.ok(record.kind === 'active' && Object.isFrozen(record.user) && Object.isFrozen(record.user.profile) && Object.isFrozen(record.revokedSessions))
    for (const kind of ['inactive', 'deleted', 'unknown'] as const) t.same(check({ kind, revision: 0 }), { kind, revision: 0 })
  })

  const flawed: ReadonlyArray<readonly [unknown, RegExp]> = [
    [undefined, /not an object/],
    [null, /not an object/],
    [[recordOf('ada')], /not an object/],
    [{ ...recordOf('ada'), kind: 'admin' }, /kind must/],
    [{ kind: 'unknown' }, /revision must/],
    [recordOf('ada', { revision: -1 }), /revision must/],
    [recordOf('ada', { revision: 1.5 }), /revision must/],
    [{ ...recordOf('ada'), revision: '1' }, /revision must/],
    [{ ...recordOf('ada'), readMark: 7 }, /readMark must/],
    [{ kind: 'unknown', revision: 0, readMark: null }, /readMark must/],
    [{ kind: 'inactive', revision: 1, readMark: [secret] }, /readMark must/],
    [{ ...recordOf('ada'), sync: 'done' }, /sync must/],
    [{ ...recordOf('ada'), lastSyncedAtMs: 'now' }, /lastSyncedAtMs must/],
    [{ ...recordOf('ada'), tokensValidFromMs: null }, /tokensValidFromMs must/],
    [recordOf('ada', { tokensValidFromMs: NaN }), /tokensValidFromMs must/],
    [{ ...recordOf('ada'), revokedSessions: 's1' }, /revokedSessions must/],
    [{ ...recordOf('ada'), revokedSessions: [1] }, /revokedSessions must/],
    [{ ...recordOf('ada'), user: null }, /user must/],
    [recordOf('ada', {}, { userId: '' }), /userId must/],
    [{ ...recordOf('ada'), user: { ...recordOf('ada').user, userId: 7 } }, /userId must/],
    [recordOf('ada', {}, { subject: secret }), /issuer and user.subject/],
    [recordOf('ada', {}, { issuer: 'https://other.test' }), /issuer and user.subject/],
    [{ ...recordOf('ada'), user: { ...recordOf('ada').user, isActive: false } }, /isActive must/],
    [{ ...recordOf('ada'), user: { ...recordOf('ada').user, onboardingCompleted: 1 } }, /onboardingCompleted must/],
    [{ ...recordOf('ada'), user: { ...recordOf('ada').user, email: 7 } }, /email must/],
    [{ ...recordOf('ada'), user: { ...recordOf('ada').user, lastName: undefined } }, /lastName must/],
    [{ ...recordOf('ada'), user: { ...recordOf('ada').user, providerUpdatedAt: new Date() } }, /providerUpdatedAt must/],
    [{ ...recordOf('ada'), user: { ...recordOf('ada').user, profile: [] } }, /profile must/]
  ]
  t.test('what is not a record of the user asked for is refused with a code, and its values are not shown', async t => {
    for (const [value, flaw] of flawed) {
      t.throws(() => check(value), { code: 'ORI_CACHE_MALFORMED_RECORD', message: flaw })
      try {
        check(value)
      } catch (error) {
        t.notMatch((error as Error).message, secret)
      }
    }
  })
})

t.test('batches', async t => {
  const bundle = (options: { readonly maxBatch?: number, readonly send?: UserSource['load'] } = {}) => {
    const clock = new ManualClock()
    const source = new HandSource()
    const turns: Array<() => void> = []
    const batcher = new LoadBatcher({
      send: options.send ?? ((batch, deadline) => source.load(batch, deadline)),
      clock,
      loadTimeoutMs: 2000,
      nextTurn: callback => { turns.push(callback) },
      ...(options.maxBatch === undefined ? {} : { maxBatch: options.maxBatch })
    })
    const departed: string[] = []
    const load = (subject: string): Promise<UserRecord> => batcher.load({ key: keyOf(subject), issuer, subject, identity: null }, () => { departed.push(subject) })
    return { clock, source, load, departed, endTurn: () => { turns.splice(0).forEach(callback => { callback() }) } }
  }

  t.test('what is asked for in one turn goes together, and each gets its own answer', async t => {
    const { source, load, departed, endTurn } = bundle()
    const [ada, bob] = [load('ada'), load('bob')]
    t.equal(source.calls.length, 0)
    t.same(departed, [])
    endTurn()
    t.same(source.last.subjects, ['ada', 'bob'])
    t.same(departed, ['ada', 'bob'])
    source.last.answer('bob')
    t.equal((await bob).kind, 'active', 'does not wait for the other')
    source.last.fail('ada', down)
    await t.rejects(ada, down)
  })

  t.test('what is asked for while two batches are on their way is gathered until one is back', async t => {
    const { clock, source, load, endTurn } = bundle()
    for (const subject of ['1', '2', '3', '4']) {
      load(subject).catch(() => {})
      endTurn()
    }
    t.equal(source.calls.length, 2)
    source.calls[0]!.answer('1')
    await clock.settle()
    t.same(source.calls.map(call => call.subjects), [['1'], ['2'], ['3', '4']])
  })

  t.test('no request is held up for longer than 20 ms by batches that do not come back', async t => {
    const { clock, source, load, endTurn } = bundle({ maxBatch: 3 })
    for (const subject of ['1', '2']) {
      load(subject).catch(() => {})
      endTurn()
    }
    for (const subject of ['3', '4', '5', '6']) load(subject).catch(() => {})
    endTurn()
    clock.advance(19)
    t.equal(source.calls.length, 2)
    clock.advance(1)
    t.same(source.last.subjects, ['3', '4', '5'])
    clock.advance(20)
    t.same(source.last.subjects, ['6'])
    clock.advance(20)
    t.equal(source.calls.length, 4)
  })

  t.test('of many at once the next batch waits while two full ones are without an answer, so that each has its time', async t => {
    const { clock, source, load, endTurn } = bundle({ maxBatch: 2 })
    const subjects = ['1', '2', '3', '4', '5', '6', '7', '8']
    const records = subjects.map(subject => load(subject))
    for (const record of records) record.catch(() => {})
    endTurn()
    clock.advance(1000)
    t.same(source.calls.map(call => call.subjects), [['1', '2'], ['3', '4']])
    // A batch is back with its first answer, but its other user is still being asked for.
    source.calls[0]!.answer('1')
    await clock.settle()
    t.same(source.last.subjects, ['5', '6'], 'there was room for one')
    source.calls[0]!.answer('2')
    source.calls[1]!.fail('3', down)
    source.calls[1]!.fail('4', down)
    await clock.settle()
    clock.advance(20)
    t.same(source.last.subjects, ['7', '8'])
    clock.advance(1980)
    t.equal((await Promise.allSettled(records)).filter(({ status }) => status === 'fulfilled').length, 2)
    t.equal(clock.pendingTimers, 0)
    for (const [call, subject] of [[2, '5'], [2, '6'], [3, '7'], [3, '8']] as const) source.calls[call]!.answer(subject)
    await clock.settle()
    // What comes after the deadline makes no room twice.
    for (const subject of subjects) load(subject).catch(() => {})
    endTurn()
    clock.advance(1000)
    t.equal(source.calls.length, 6)
  })

  t.test('the gathering time passes without a trace when a batch came back before', async t => {
    const { clock, source, load, endTurn } = bundle()
    for (const subject of ['1', '2', '3']) {
      load(subject).catch(() => {})
      endTurn()
    }
    source.calls[0]!.answer('1')
    await clock.settle()
    t.equal(source.calls.length, 3)
    clock.advance(20)
    t.equal(source.calls.length, 3)
  })

  t.test('a batch that is not answered by its deadline is unavailable, and what comes later is dropped', async t => {
    const { clock, source, load, endTurn } = bundle()
    const [ada, bob] = [load('ada'), load('bob')]
    endTurn()
    source.last.answer('ada')
    await ada
    clock.advance(1999)
    t.notOk(source.last.deadline.signal.aborted)
    clock.advance(1)
    t.ok(source.last.deadline.signal.aborted)
    await t.rejects(bob, SourceUnavailable)
    source.last.answer('bob')
    await clock.settle()
    const next = load('eve')
    endTurn()
    source.last.answer('eve')
    t.equal((await next).kind, 'active')
    await clock.settle()
    t.equal(clock.pendingTimers, 0, 'the deadline of a batch that is answered is released')
  })

  t.test('a source that hangs makes way for the next batches at its deadline', async t => {
    const { clock, source, load, endTurn } = bundle()
    for (const subject of ['1', '2']) {
      load(subject).catch(() => {})
      endTurn()
    }
    clock.advance(2000)
    load('3').catch(() => {})
    endTurn()
    t.same(source.last.subjects, ['3'])
    source.last.fail('3', down)
    await clock.settle()
  })

  t.test('a sending that fails strands nobody', async t => {
    const { clock, load, endTurn } = bundle({ send: () => { throw new Error('boom') } })
    const loads = [load('ada'), load('bob')]
    endTurn()
    for (const load of loads) await t.rejects(load, { message: 'boom' })
    t.equal(clock.pendingTimers, 0)
  })
})

t.test('hits', async t => {
  t.test('the first request loads, the second is answered from memory, synchronously and by the same frozen outcome', async t => {
    const { clock, source, manager } = setup()
    const identity = identityOf('ada')
    const first = manager.resolve(identity, route)
    t.ok(isPromise(first))
    await clock.settle()
    source.last.answer('ada')
    t.match(await first, { kind: 'user', from: 'source', stale: false, cachedAtMs: clock.now(), user: { userId: 'id-ada' } })
    const second = manager.resolve(identity, route)
    t.match(second, { kind: 'user', from: 'cache', stale: false, cachedAtMs: clock.now(), dbSynced: true })
    t.ok(Object.isFrozen(second))
    t.equal(manager.resolve(identity, route), second)
    t.equal(manager.resolve(identityOf('ada'), route), second, 'another token of the user')
    t.match(manager.cache.stats(), { cacheHits: 3, cacheMisses: 1, missesCold: 1, lookups: 4, loads: 1, syncSkips: 1, entries: 1 })
  })

  t.test('a hit creates no promise', async t => {
    const { manager } = await setupWith(['ada'])
    const identity = identityOf('ada')
    let promises = 0
    const hook = createHook({ init (_id, type) { if (type === 'PROMISE') promises++ } })
    hook.enable()
    for (let hit = 0; hit < 1000; hit++) manager.resolve(identity, route)
    hook.disable()
    t.equal(promises, 0)
    t.equal(manager.cache.stats().cacheHits, 1000)
  })

  t.test('a token that was revoked is refused on a hit, other tokens of the user are not', async t => {
    const { clock, source, manager } = setup()
    const validFrom = 1_700_000_000_000
    source.reply = () => recordOf('ada', { tokensValidFromMs: validFrom, revokedSessions: ['ended'] })
    const good = { issuedAtMs: validFrom + 1000, sessionId: 'open' }
    t.match(await manager.resolve(identityOf('ada', good), route), { kind: 'user' })
    t.match(manager.resolve(identityOf('ada', good), route), { kind: 'user', from: 'cache' })
    t.equal(manager.resolve(identityOf('ada', { ...good, sessionId: 'ended' }), route), revoked)
    t.equal(manager.resolve(identityOf('ada', { ...good, issuedAtMs: validFrom + 500 }), route), revoked, 'issued in that second')
    t.equal(manager.resolve(identityOf('ada'), route), revoked, 'does not say when it was issued')
    source.reply = () => { throw down }
    clock.advance(900_000)
    t.match(await manager.resolve(identityOf('ada', good), route), { kind: 'user', stale: true })
    t.equal(await manager.resolve(identityOf('ada', { ...good, sessionId: 'ended' }), route), revoked)
  })

  t.test('an identity that remembers the entry of another cache is looked up', async t => {
    const [one, other] = [await setupWith(['ada']), await setupWith(['ada'])]
    const identity = identityOf('ada')
    const outcome = one.manager.resolve(identity, route)
    t.not(other.manager.resolve(identity, route), outcome)
    t.equal(one.manager.resolve(identity, route), outcome)
    identity.memo.entry = { fresh: 'something of another resolver' }
    t.equal(one.manager.resolve(identity, route), outcome)
  })

  t.test('from 0.8 of its life on an entry is loaded anew behind the hit, once at a time', async t => {
    const { clock, source, manager } = await setupWith(['ada'])
    clock.advance(719_999)
    manager.resolve(identityOf('ada'), route)
    await clock.settle()
    t.equal(source.calls.length, 0)
    clock.advance(1)
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' })
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' })
    await clock.settle()
    t.equal(source.calls.length, 1)
    source.last.fail('ada', down)
    await clock.settle()
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' }, 'its failure is not felt')
    await clock.settle()
    t.equal(source.calls.length, 1, 'nor tried again at once')
    clock.advance(1000)
    manager.resolve(identityOf('ada'), route)
    clock.advance(1000)
    manager.resolve(identityOf('ada'), route)
    await clock.settle()
    t.equal(source.calls.length, 2, 'one at a time')
    source.last.answer('ada', recordOf('ada', { revision: 2 }))
    await clock.settle()
    clock.advance(700_000)
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', stale: false })
    t.match(manager.cache.stats(), { refreshes: 2, loads: 3, replaced: 1, stored: 1, entries: 1, cacheMisses: 0 })
  })
})

t.test('expiry', async t => {
  t.test('an entry is loaded anew when it is as old as expireAfterMs, by either clock', async t => {
    for (const pass of [(clock: ManualClock) => { clock.advance(1000) }, (clock: ManualClock) => { clock.jump(1000) }]) {
      const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 1000, refreshAfterMs: 1000 })
      pass(clock)
      const outcome = manager.resolve(identityOf('ada'), route)
      await clock.settle()
      source.last.answer('ada')
      t.match(await outcome, { from: 'source' })
      t.match(manager.cache.stats(), { missesExpired: 1, cacheMisses: 1, replaced: 1, entries: 1 })
    }
  })

  t.test('the wall clock going back makes nothing young', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 1000, refreshAfterMs: 1000 })
    clock.jump(-3_600_000)
    clock.advance(1000)
    t.ok(isPromise(manager.resolve(identityOf('ada'), route)))
    await clock.settle()
    source.last.answer('ada')
    await manager.cache.idle()
  })

  t.test('jitter takes up to a tenth off', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 1000, refreshAfterMs: 1000, random: () => 1 })
    clock.advance(899)
    t.notOk(isPromise(manager.resolve(identityOf('ada'), route)))
    clock.advance(1)
    t.ok(isPromise(manager.resolve(identityOf('ada'), route)))
    await clock.settle()
    source.last.answer('ada')
  })

  t.test('the age of an entry runs from the sending of its load', async t => {
    const { clock, source, manager } = setup({ expireAfterMs: 1000, refreshAfterMs: 1000 })
    const outcome = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    clock.advance(600)
    source.last.answer('ada')
    t.match(await outcome, { cachedAtMs: clock.now() - 600 })
    clock.advance(400)
    t.ok(isPromise(manager.resolve(identityOf('ada'), route)))
    await clock.settle()
    source.last.answer('ada')
  })

  t.test('a route with a tighter bound gets a load of its own age, others keep the entry', async t => {
    const { clock, source, manager } = await setupWith(['ada'])
    clock.advance(500)
    t.match(manager.resolve(identityOf('ada'), bounded(501)), { from: 'cache' })
    const outcome = manager.resolve(identityOf('ada'), bounded(500))
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache' })
    await clock.settle()
    source.last.answer('ada')
    t.match(await outcome, { from: 'source' })
    t.match(manager.cache.stats(), { missesStaleness: 1, cacheMisses: 1 })
  })

  t.test('so is one that is older than expireAfterMs when a request joins it', async t => {
    const { clock, source, manager } = setup({ expireAfterMs: 1000, refreshAfterMs: 1000 })
    const early = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    clock.advance(1000)
    const late = manager.resolve(identityOf('ada'), route)
    source.last.answer('ada')
    await early
    await clock.settle()
    t.equal(source.calls.length, 2)
    source.last.answer('ada', recordOf('ada', { revision: 2 }, { firstName: 'late' }))
    t.match(await late, { user: { firstName: 'late' } })
  })

  t.test('a load that was sent too long before the request is followed by another', async t => {
    const { clock, source, manager } = setup()
    const early = manager.resolve(identityOf('ada'), bounded(0))
    const sameTurn = manager.resolve(identityOf('ada'), bounded(0))
    await clock.settle()
    clock.advance(100)
    const late = manager.resolve(identityOf('ada'), bounded(100))
    const patient = manager.resolve(identityOf('ada'), bounded(101))
    source.last.answer('ada', recordOf('ada', { revision: 1 }, { email: 'old@example.test' }))
    for (const outcome of [early, sameTurn, patient]) t.match(await outcome, { user: { email: 'old@example.test' } })
    await clock.settle()
    clock.jump(-3_600_000)
    source.last.answer('ada', recordOf('ada', { revision: 2 }, { email: 'new@example.test' }))
    t.match(await late, { user: { email: 'new@example.test' } })
    t.equal(manager.cache.stats().loads, 2)
  })
})

t.test('a user is kept with the fields of the contract and the texts of the request; what the source answered is left as it was', async t => {
  const { source, manager, cache } = setup()
  const record = recordOf('ada')
  source.reply = () => ({ ...record, user: { ...record.user, other: 'kept by nobody' } })
  const identity = identityOf('ada')
  await manager.resolve(identity, route)
  const { fresh } = cache.find(identity)!
  t.strictSame(fresh.kind === 'user' && fresh.user, { ...record.user, extra: {} })
  t.ok(fresh.kind === 'user' && Object.isFrozen(fresh.user) && Object.isFrozen(fresh.user.extra))
  t.notOk(Object.isFrozen(record.user))
  const extra = { plan: 'pro', roles: ['admin'] }
  source.reply = ({ subject }) => recordOf(subject, {}, { extra })
  const eve = await manager.resolve(identityOf('eve'), route)
  t.strictSame(eve.kind === 'user' && eve.user.extra, extra)
  t.ok(Object.isFrozen(extra.roles))
  for (const malformed of [null, [], 'pro']) {
    source.reply = ({ subject }) => recordOf(subject, {}, { extra: malformed as never })
    await t.rejects(async () => { await manager.resolve(identityOf('bob'), route) }, { code: 'ORI_CACHE_MALFORMED_RECORD', message: /user\.extra must be an object, or be left out/ })
  }
})

t.test('outages', async t => {
  t.test('a known user is served, marked stale, for staleIfErrorMs after expiry and no longer', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 1000, staleIfErrorMs: 5000 })
    source.reply = () => { throw down }
    const loadedAt = clock.now()
    clock.advance(1000)
    const stale = await manager.resolve(identityOf('ada'), route)
    t.match(stale, { kind: 'user', stale: true, from: 'cache', cachedAtMs: loadedAt, user: { userId: 'id-ada' } })
    t.strictSame(await manager.resolve(identityOf('ada'), route), stale)
    t.ok(Object.isFrozen(stale))
    t.match(await manager.resolve(identityOf('ada'), failing), { kind: 'unavailable', retryAfterMs: 700, cause: down })
    clock.advance(4999)
    t.match(await manager.resolve(identityOf('ada'), route), { stale: true })
    clock.advance(1)
    t.match(await manager.resolve(identityOf('ada'), route), { kind: 'unavailable' })
    t.match(manager.cache.stats(), { staleHits: 3, missesExpired: 2, cacheMisses: 2, entries: 0, expired: 1, loadFailures: 5, lookups: 5 })
  })

  t.test('a user who becomes too old while the load is on its way is not served', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 1000, staleIfErrorMs: 500 })
    clock.advance(1499)
    const outcome = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    clock.advance(1)
    source.last.fail('ada', down)
    t.match(await outcome, { kind: 'unavailable' })
  })

  t.test('an unknown user is unavailable', async t => {
    const { source, manager } = setup()
    source.reply = () => { throw down }
    t.match(await manager.resolve(identityOf('ada'), route), { kind: 'unavailable', retryAfterMs: 700 })
    t.match(manager.cache.stats(), { missesCold: 1, loadFailures: 1, entries: 0 })
  })

  t.test('a user who was invalidated is not served stale, not even when that happens during the load', async t => {
    for (const invalidate of ['invalidateUser', 'invalidateAll', 'apply'] as const) {
      const { clock, source, manager, cache } = await setupWith(['ada'])
      clock.advance(900_000)
      const outcome = manager.resolve(identityOf('ada'), route)
      await clock.settle()
      if (invalidate === 'apply') cache.apply({ kind: 'user', keyHash: hashOf('ada'), revision: 2 })
      else if (invalidate === 'invalidateAll') cache.invalidateAll()
      else t.ok(cache.invalidateUser(keyOf('ada')))
      source.last.fail('ada', down)
      t.match(await outcome, { kind: 'unavailable' }, invalidate)
    }
  })

  t.test('a route whose bound is tighter than the cache\'s gets the entry marked stale', async t => {
    const { clock, source, manager } = await setupWith(['ada'])
    source.reply = () => { throw down }
    clock.advance(100)
    t.match(await manager.resolve(identityOf('ada'), bounded(100)), { kind: 'user', stale: true })
    t.match(await manager.resolve(identityOf('ada'), { ...failing, maxStalenessMs: 100 }), { kind: 'unavailable' })
    t.match(manager.resolve(identityOf('ada'), route), { stale: false })
  })

  t.test('when the load fails but another has brought the user meanwhile, that is a hit', async t => {
    const { clock, source, manager, cache } = setup()
    const late = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    cache.invalidateUser(keyOf('ada'))
    const next = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    source.calls[1]!.answer('ada')
    await next
    source.calls[0]!.fail('ada', down)
    t.match(await late, { kind: 'user', from: 'cache', stale: false })
  })

  t.test('a defect is thrown, whatever is in memory, and every waiter is told', async t => {
    const { clock, source, manager } = await setupWith(['ada'])
    clock.advance(900_000)
    source.reply = () => { throw new TypeError('a defect') }
    const outcomes = [manager.resolve(identityOf('ada'), route), manager.resolve(identityOf('ada'), route)]
    for (const outcome of outcomes) await t.rejects(Promise.resolve(outcome), { message: 'a defect' })
    source.reply = () => recordOf('eve')
    await t.rejects(Promise.resolve(manager.resolve(identityOf('ada'), route)), { code: 'ORI_CACHE_MALFORMED_RECORD' })
    t.match(manager.cache.stats(), { cacheMisses: 3, missesExpired: 3, loadFailures: 2, waiting: 0, inFlight: 0 })
  })

  t.test('those beyond maxWaiters do not wait', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { maxWaiters: 2 })
    clock.advance(900_000)
    const waiting = [manager.resolve(identityOf('eve'), route), manager.resolve(identityOf('eve'), route)]
    t.match(await manager.resolve(identityOf('bob'), route), { kind: 'unavailable' })
    t.match(await manager.resolve(identityOf('ada'), route), { kind: 'user', stale: true })
    t.equal(manager.cache.stats().waiting, 2)
    await clock.settle()
    source.last.answer('eve')
    for (const outcome of waiting) t.match(await outcome, { kind: 'user' })
  })
})

t.test('users who must not pass', async t => {
  t.test('they are remembered for negativeTtlMs, and never stale', async t => {
    const { clock, source, manager } = setup()
    const expected = { inactive: { kind: 'forbidden' }, deleted: { kind: 'refused', error: 'invalid_token' }, unknown: { kind: 'refused' } }
    for (const kind of ['inactive', 'deleted', 'unknown'] as const) {
      source.reply = () => ({ kind, revision: 1 })
      t.match(await manager.resolve(identityOf(kind), route), expected[kind])
      const again = manager.resolve(identityOf(kind), route)
      t.notOk(isPromise(again))
      t.match(again, expected[kind])
    }
    t.match(manager.cache.stats(), { negativeHits: 3, cacheHits: 0, cacheMisses: 3, lookups: 6, entries: 0, stored: 0, negativeEntries: 3 })
    clock.advance(5000)
    source.reply = () => { throw down }
    t.match(await manager.resolve(identityOf('inactive'), route), { kind: 'unavailable' })
    t.equal(manager.cache.stats().negativeEntries, 2)
  })

  t.test('with negativeTtlMs 0 they are not remembered', async t => {
    const { source, manager } = setup({ negativeTtlMs: 0 })
    source.reply = () => ({ kind: 'unknown', revision: 0 })
    await manager.resolve(identityOf('ada'), route)
    await manager.resolve(identityOf('ada'), route)
    t.match(manager.cache.stats(), { negativeEntries: 0, cacheMisses: 2 })
  })

  t.test('they have a tenth of the room and drive nobody out', async t => {
    const { source, manager } = await setupWith(['ada', 'bob'], { maxEntries: 20 })
    source.reply = () => ({ kind: 'unknown', revision: 0 })
    for (let subject = 0; subject < 50; subject++) await manager.resolve(identityOf(`invented-${subject}`), route)
    t.match(manager.cache.stats(), { entries: 2, negativeEntries: 2, evictions: 0 })
  })

  t.test('a user who is found inactive leaves at once, and comes back when active again', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada'])
    clock.advance(900_000)
    source.reply = () => ({ kind: 'inactive', revision: 2 })
    t.match(await manager.resolve(identityOf('ada'), route), { kind: 'forbidden' })
    t.match(cache.stats(), { entries: 0, negativeEntries: 1, invalidations: 1 })
    clock.advance(5000)
    source.reply = () => recordOf('ada', { revision: 3 })
    t.match(await manager.resolve(identityOf('ada'), route), { kind: 'user' })
    t.match(cache.stats(), { entries: 1, negativeEntries: 0, stored: 2, invalidations: 1 })
  })

  t.test('a claim that is newer does not hurry them', async t => {
    const { source, manager } = setup()
    source.reply = () => ({ kind: 'inactive', revision: 2 })
    await manager.resolve(identityOf('ada'), route)
    t.match(manager.resolve(identityOf('ada', { providerUpdatedAt: 5 }), route), { kind: 'forbidden' })
  })
})

t.test('newer claims', async t => {
  const claiming = (providerUpdatedAt: number): Identity => identityOf('ada', { providerUpdatedAt })

  t.test('a claim newer than the entry is followed up by one load', async t => {
    const { clock, source, manager } = await setupWith(['ada'])
    const outcomes = [manager.resolve(claiming(10), route), manager.resolve(claiming(10), route)]
    t.match(manager.resolve(claiming(-Infinity), route), { from: 'cache' })
    await clock.settle()
    t.equal(source.calls.length, 1)
    t.equal(source.last.requests[0]!.identity?.providerUpdatedAt, 10)
    source.last.answer('ada', recordOf('ada', { revision: 2, sync: 'performed' }, { providerUpdatedAt: 10 }))
    for (const outcome of outcomes) t.match(await outcome, { from: 'source', user: { providerUpdatedAt: 10 } })
    t.match(manager.resolve(claiming(10), route), { from: 'cache' })
    t.match(manager.resolve(claiming(9), route), { from: 'cache' })
    t.match(manager.cache.stats(), { missesHint: 2, databaseSyncs: 1, loads: 2 })
    t.equal(clock.pendingTimers, 0)
  })

  t.test('a claim that the source does not confirm is followed up once', async t => {
    const { clock, source, manager } = await setupWith(['ada'])
    source.reply = () => recordOf('ada')
    await manager.resolve(claiming(10), route)
    t.match(manager.resolve(claiming(10), route), { from: 'cache' })
    source.reply = () => { throw down }
    t.match(await manager.resolve(claiming(11), route), { from: 'cache', stale: false }, 'the entry is fresh, whatever the claim says')
    t.match(manager.resolve(claiming(11), route), { from: 'cache' })
    t.match(manager.cache.stats(), { loadFailures: 1, missesHint: 1 })
    await clock.settle()
  })

  t.test('a request waits 75 ms for it at most; the load goes on', async t => {
    const { clock, source, manager } = await setupWith(['ada'])
    const outcome = manager.resolve(claiming(10), route)
    await clock.settle()
    clock.advance(75)
    t.match(await outcome, { from: 'cache', stale: false })
    t.match(manager.resolve(claiming(10), route), { from: 'cache' }, 'and nobody waits for it again')
    source.last.answer('ada', recordOf('ada', { revision: 2 }, { providerUpdatedAt: 10 }))
    await manager.cache.idle()
    t.match(manager.resolve(claiming(10), route), { from: 'cache', user: { providerUpdatedAt: 10 } })
  })

  t.test('a request whose entry is invalidated while it waits gets what the load brings', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada'])
    const outcome = manager.resolve(claiming(10), route)
    await clock.settle()
    cache.invalidateUser(keyOf('ada'))
    clock.advance(75)
    await clock.settle()
    source.last.answer('ada', recordOf('ada', { revision: 2 }))
    t.match(await outcome, { from: 'source' })
  })

  t.test('a load that was begun for an older claim is followed by one for the newer', async t => {
    const { clock, source, manager } = setup()
    const [older, newer] = [manager.resolve(claiming(10), route), manager.resolve(claiming(20), route)]
    await clock.settle()
    source.last.answer('ada', recordOf('ada', {}, { providerUpdatedAt: 10 }))
    await older
    await clock.settle()
    t.equal(source.last.requests[0]!.identity?.providerUpdatedAt, 20)
    source.last.answer('ada', recordOf('ada', {}, { providerUpdatedAt: 20 }))
    t.match(await newer, { user: { providerUpdatedAt: 20 } })
  })
})

t.test('preload', async t => {
  t.test('users are in memory before anybody asks for them, once each', async t => {
    const { source, manager, cache } = setup()
    source.reply = request => request.subject === 'nobody' ? { kind: 'unknown', revision: 0 } : recordOf(request.subject)
    t.same(await cache.preload([keyOf('ada'), keyOf('bob'), keyOf('ada'), keyOf('nobody')]), { loaded: 2, failed: 1 })
    t.same(source.last.subjects, ['ada', 'bob', 'nobody'])
    t.same(source.last.requests[0], { key: keyOf('ada'), issuer, subject: 'ada', identity: null })
    t.same(await cache.preload([keyOf('ada')]), { loaded: 1, failed: 0 })
    t.equal(source.calls.length, 1)
    t.match(manager.resolve(identityOf('bob'), route), { from: 'cache' })
    t.same(cache.recent(10), [keyOf('bob'), keyOf('ada')])
    t.same(cache.recent(1), [keyOf('bob')])
    t.match(cache.stats(), { lookups: 1, loads: 3 })
  })

  t.test('"unknown" to a preload is no answer to a request, which may create the user', async t => {
    const { clock, source, manager, cache } = setup()
    const preload = cache.preload([keyOf('ada')])
    const outcome = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    source.last.answer('ada', { kind: 'unknown', revision: 0 })
    t.same(await preload, { loaded: 0, failed: 1 })
    t.equal(cache.stats().negativeEntries, 0)
    await clock.settle()
    t.not(source.last.requests[0]!.identity, null)
    source.last.answer('ada')
    t.match(await outcome, { kind: 'user' })
  })

  t.test('it asks for no more than fit, in batches, until its deadline, and survives an outage', async t => {
    const { source, cache } = setup({ maxEntries: 1200 })
    const keys = Array.from({ length: 2000 }, (_, index) => keyOf(`user-${index}`))
    const ended = new AbortController()
    source.reply = request => {
      if (request.subject === 'user-700') ended.abort()
      return recordOf(request.subject)
    }
    t.same(await cache.preload(keys, { atMs: 0, signal: ended.signal }), { loaded: 1000, failed: 200 })
    t.same(source.calls.map(call => call.requests.length), [500, 500])
    source.reply = () => { throw down }
    t.same(await cache.preload(keys), { loaded: 1000, failed: 200 })
  })
})

t.test('cleaning up', async t => {
  t.test('only what is too old to be served at all is dropped, a slice at a time', async t => {
    const { clock, source, cache } = await setupWith(['1', '2', '3'], { expireAfterMs: 1000, staleIfErrorMs: 500, maxEntries: 50 })
    clock.advance(1000)
    source.reply = request => request.subject === 'gone' ? { kind: 'deleted', revision: 1 } : recordOf(request.subject)
    await cache.preload([keyOf('4'), keyOf('gone')])
    t.ok(cache.sweep(100))
    t.match(cache.stats(), { entries: 4, expired: 0, negativeEntries: 1 })
    clock.advance(500)
    t.notOk(cache.sweep(2))
    t.equal(cache.stats().expired, 2)
    t.notOk(cache.sweep(2))
    t.match(cache.stats(), { entries: 1, expired: 3 })
    clock.advance(4500)
    t.ok(cache.sweep(2))
    t.match(cache.stats(), { entries: 1, negativeEntries: 0 })
    t.ok(cache.sweep(2))
    t.match(cache.stats(), { entries: 0, expired: 4 })
  })

  t.test('it comes at its interval, goes on until a pass is complete, and stops when told', async t => {
    const clock = new ManualClock()
    const limits: number[] = []
    const cleanup = new Cleanup(limit => limits.push(limit) % 3 === 0, clock, 1000)
    clock.advance(999)
    t.equal(limits.length, 0)
    clock.advance(1)
    t.same(limits, [32, 32, 32])
    clock.advance(1000)
    t.equal(limits.length, 6)
    cleanup.stop()
    clock.advance(10_000)
    t.equal(limits.length, 6)
    t.equal(clock.pendingTimers, 0)
  })
})

t.test('refresh', async t => {
  t.test('a user is loaded anew whatever is in memory, and nobody is created', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada'])
    const refreshed = cache.refresh(keyOf('ada'))
    await clock.settle()
    t.same(source.last.requests, [{ key: keyOf('ada'), issuer, subject: 'ada', identity: null, force: false }])
    source.last.answer('ada', recordOf('ada', { revision: 2 }, { firstName: 'Ada' }))
    t.match(await refreshed, { kind: 'active', user: { firstName: 'Ada' } })
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', user: { firstName: 'Ada' } })
    source.reply = () => ({ kind: 'unknown', revision: 0 })
    t.match(await cache.refresh(keyOf('ada')), { kind: 'unknown' })
    t.match(cache.stats(), { entries: 0, lookups: 1 })
  })

  t.test('with force the provider is asked, by a load of its own that begins after the call', async t => {
    const { clock, source, manager, cache } = setup()
    const outcome = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    const refreshed = cache.refresh(keyOf('ada'), { force: true })
    const shared = cache.refresh(keyOf('ada'), { force: true })
    await clock.settle()
    t.equal(source.calls.length, 1, 'one at a time')
    source.last.answer('ada')
    await outcome
    await clock.settle()
    t.match(source.last.requests, [{ identity: null, force: true }])
    source.last.answer('ada', recordOf('ada', { revision: 2 }))
    t.match(await refreshed, { revision: 2 })
    t.match(await shared, { revision: 2 })
    t.equal(source.calls.length, 2)
  })

  t.test('a plain load that has not left yet does not do for a forced one', async t => {
    const { clock, source, manager, cache } = setup()
    source.reply = request => recordOf('ada', { revision: request.force === true ? 2 : 1 })
    const outcome = manager.resolve(identityOf('ada'), route)
    t.match(await cache.refresh(keyOf('ada'), { force: true }), { revision: 2 })
    await outcome
    await clock.settle()
    t.equal(source.calls.length, 2)
  })

  t.test('it fails as the load fails', async t => {
    const { source, cache } = await setupWith(['ada'])
    source.reply = () => { throw down }
    await t.rejects(cache.refresh(keyOf('ada')), down)
    source.reply = () => recordOf('eve')
    await t.rejects(cache.refresh(keyOf('ada')), { code: 'ORI_CACHE_MALFORMED_RECORD' })
    t.equal(cache.stats().entries, 1)
  })
})

t.test('channels', async t => {
  type Name = keyof typeof channels
  const listen = (t: Test, ...names: Name[]): Array<readonly [Name, unknown]> => {
    const heard: Array<readonly [Name, unknown]> = []
    for (const name of names) {
      const listener = (event: unknown): void => { heard.push([name, event]) }
      channels[name].subscribe(listener)
      t.teardown(() => channels[name].unsubscribe(listener))
    }
    return heard
  }
  const all: Name[] = ['load', 'invalidate', 'evict', 'stale', 'gate']

  t.test('they are named after the package and what happened', async t => {
    for (const [name, channel] of Object.entries(channels)) t.equal(channel.name, `orientor:session-cache:${name}`)
    t.same(Object.keys(channels), all)
  })

  t.test('loads, evictions, invalidations and stale answers are told; hits are not', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada'], { maxEntries: 1, expireAfterMs: 1000, refreshAfterMs: 1000 })
    const heard = listen(t, ...all)
    manager.resolve(identityOf('ada'), route)
    t.same(heard, [])
    const outcome = manager.resolve(identityOf('bob'), route)
    await clock.settle()
    clock.advance(30)
    source.last.answer('bob')
    await outcome
    clock.advance(1000)
    source.reply = () => { throw down }
    await manager.resolve(identityOf('bob'), route)
    source.reply = () => recordOf('eve')
    await t.rejects(cache.refresh(keyOf('bob')))
    cache.apply({ kind: 'user', keyHash: hashOf('bob'), revision: 1 })
    cache.apply({ kind: 'user', keyHash: hashOf('bob'), revision: 2 })
    cache.invalidateUser(keyOf('bob'))
    cache.invalidateAll()
    const keyHash = hashOf('bob')
    t.same(heard, [
      ['evict', { keyHash: hashOf('ada') }],
      ['load', { keyHash, result: 'active', stored: true, durationMs: 30 }],
      ['load', { keyHash, result: 'unavailable', stored: false, durationMs: 0 }],
      ['stale', { keyHash, ageMs: 1030 }],
      ['load', { keyHash, result: 'defect', stored: false, durationMs: 0 }],
      ['invalidate', { keyHash, revision: 1, dropped: 0 }],
      ['invalidate', { keyHash, revision: 2, dropped: 1 }],
      ['invalidate', { keyHash, revision: null, dropped: 0 }],
      ['invalidate', { keyHash: null, revision: null, dropped: 0 }]
    ])
    t.notMatch(JSON.stringify(heard), /bob|ada|issuer/)
  })
})

t.test('closing', async t => {
  t.test('idle and close wait for the loads on their way; afterwards memory is all there is', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada'])
    await cache.idle()
    const outcome = manager.resolve(identityOf('bob'), route)
    let idle = false
    const done = Promise.all([cache.idle(), cache.close()]).then(() => { idle = true })
    await clock.settle()
    t.notOk(idle)
    source.last.answer('bob')
    await done
    t.match(await outcome, { kind: 'user' })
    t.match(manager.resolve(identityOf('ada'), route), { kind: 'user', from: 'cache' })
    t.match(await manager.resolve(identityOf('eve'), route), { kind: 'unavailable' })
    clock.advance(800_000)
    t.match(manager.resolve(identityOf('ada'), route), { kind: 'user', from: 'cache' }, 'without a load behind it')
    t.equal(source.calls.length, 1)
  })
})

t.test('statistics', async t => {
  t.test('misses say why, as far as the token remembers', async t => {
    const { source, manager, cache } = setup({ maxEntries: 1 })
    source.reply = request => recordOf(request.subject)
    const [ada, bob] = [identityOf('ada'), identityOf('bob')]
    await manager.resolve(ada, route)
    await manager.resolve(bob, route)
    await manager.resolve(ada, route)
    t.match(cache.stats(), { missesCold: 2, missesEvicted: 1, evictions: 2 })
    cache.invalidateUser(ada.key)
    await manager.resolve(ada, route)
    t.equal(cache.stats().missesInvalidated, 1)
    t.equal(cache.invalidateAll(), 1)
    await manager.resolve(ada, route)
    t.equal(cache.stats().missesEpoch, 1)
    await manager.resolve(identityOf('eve', {}), route)
    const stats = cache.stats()
    t.ok(Object.isFrozen(stats))
    t.equal(stats.cacheMisses, 6)
    t.equal(stats.entries, stats.stored - stats.evictions - stats.expired - stats.invalidations)
  })

  t.test('an entry that was replaced and then lost leaves no reason behind', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada'])
    const identity = identityOf('ada')
    manager.resolve(identity, route)
    clock.advance(900_000)
    source.reply = request => recordOf(request.subject, { sync: 'failed' })
    t.match(await manager.resolve(identityOf('ada'), route), { dbSynced: false })
    cache.invalidateUser(keyOf('ada'))
    await manager.resolve(identity, route)
    t.match(cache.stats(), { missesCold: 1, missesExpired: 1, syncFailures: 2 })
  })

  t.test('every instrument reads numbers that are there', async t => {
    const { manager } = await setupWith(['ada'])
    const instruments = cacheInstruments(() => manager.stats())
    t.equal(new Set(instruments.map(({ name }) => name)).size, instruments.length)
    for (const instrument of instruments) {
      t.ok(instrument.help.length > 0 && instrument.unit.length > 0)
      for (const { value } of instrument.read()) t.type(value, 'number', instrument.name)
    }
    t.same(instruments.find(({ name }) => name.endsWith('.entries'))!.read(), [{ labels: { kind: 'user' }, value: 1 }, { labels: { kind: 'negative' }, value: 0 }])
  })
})

t.test('options', async t => {
  t.test('what is left out has a default', async t => {
    t.match(resolveOptions(undefined), {
      expireAfterMs: 900_000,
      refreshAfterMs: 720_000,
      maxEntries: 10_000,
      staleIfErrorMs: 900_000,
      negativeTtlMs: 5_000,
      cleanupIntervalMs: 300_000,
      loadTimeoutMs: 2_000,
      maxWaiters: 20_000,
      source: null,
      random: Math.random
    })
    t.equal(resolveOptions({ expireAfterMs: 1 }).refreshAfterMs, 1)
    t.ok(Object.isFrozen(resolveOptions({})))
  })

  t.test('what breaks its rule is refused, with the option, the rule and what was received', async t => {
    const wrong: ReadonlyArray<readonly [object, RegExp]> = [
      [{ ttl: 5 }, /"ttl" is not known/],
      [{ maxEntries: 0 }, /"maxEntries" must be an integer from 1 .*received 0/],
      [{ maxEntries: Infinity }, /"maxEntries"/],
      [{ expireAfterMs: '15m' }, /"expireAfterMs" must be a whole number of milliseconds.*received "15m"/],
      [{ expireAfterMs: 100, refreshAfterMs: 101 }, /"refreshAfterMs" must not be above expireAfterMs \(100\); received 101/],
      [{ negativeTtlMs: 60_001 }, /"negativeTtlMs"/],
      [{ source: {} }, /"source" must be a source of users/],
      [{ clock: Date }, /"clock" must be a clock/],
      [{ random: 4 }, /"random" must be a function/]
    ]
    for (const [input, message] of wrong) t.throws(() => resolveOptions(input), { code: 'ORI_CONTRACT_INVALID_OPTION', message })
  })
})

t.test('every error has a code of this package, and is a defect unless it passes', async t => {
  for (const Coded of Object.values(errors) as Array<new () => Error & { code: string, statusCode: number }>) {
    const error = new Coded()
    t.match(error, { code: /^ORI_CACHE_/, statusCode: error.code.endsWith('_UNAVAILABLE') ? 503 : 500 })
  }
})
