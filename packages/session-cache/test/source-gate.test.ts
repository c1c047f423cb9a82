import t, { type Test } from 'tap'
import { SourceUnavailable, startDeadline, type LoadRequest, type RouteSession, type UserRecord, type UserSource } from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import { channels, SourceGate, type GateEvent } from '../src/core.js'
import { HandSource, identityOf, issuer, keyOf, recordOf, route, setupWith } from './fixtures/setup.js'

const down = new SourceUnavailable('The database is down')
const failing: RouteSession = { ...route, onUnavailable: 'fail' }

function requestFor (subject: string): LoadRequest {
  return { key: keyOf(subject), issuer, subject, identity: identityOf(subject), force: true }
}

function bundle ({ random = () => 0, load }: { readonly random?: () => number, readonly load?: UserSource['load'] | null } = {}) {
  const clock = new ManualClock()
  const source = new HandSource()
  const gate = new SourceGate({ source: () => load === null ? null : load === undefined ? source : { load }, clock, random, loadTimeoutMs: 2000 })
  const ask = (...subjects: string[]): Promise<ReadonlyArray<PromiseSettledResult<UserRecord>>> =>
    Promise.allSettled(gate.load(subjects.map(requestFor), startDeadline(clock, 2000)))
  const fail = async (times: number): Promise<void> => {
    for (let time = 0; time < times; time++) {
      source.reply = null
      const asked = ask('ada')
      source.last.fail('ada', down)
      await asked
    }
  }
  return { clock, source, gate, ask, fail }
}

t.test('the gate passes batches on and hands each answer back', async t => {
  const { source, gate, ask } = bundle()
  source.reply = request => recordOf(request.subject)
  t.match(await ask('ada', 'bob'), [{ value: { user: { subject: 'ada' } } }, { value: { user: { subject: 'bob' } } }])
  t.same(gate.stats(), { circuitOpen: 0, circuitOpenings: 0, circuitProbes: 0, circuitRefusals: 0 })
})

t.test('it opens at the fifth failure in a row, not before, and one answer in between starts anew', async t => {
  const { source, gate, ask, fail } = bundle()
  await fail(4)
  source.reply = request => recordOf(request.subject)
  await ask('ada')
  await fail(4)
  t.notOk(gate.isOpen)
  await fail(1)
  t.ok(gate.isOpen)
  t.match(gate.stats(), { circuitOpen: 1, circuitOpenings: 1 })
})

t.test('it opens when more than half of the last twenty failed', async t => {
  const { source, gate, ask, fail } = bundle()
  const answer = async (): Promise<void> => {
    source.reply = request => recordOf(request.subject)
    await ask('ada')
  }
  for (let round = 0; round < 10; round++) {
    await fail(1)
    await answer()
  }
  t.notOk(gate.isOpen, 'half of them')
  for (let round = 0; round < 7; round++) {
    await answer()
    await answer()
    await fail(1)
  }
  t.notOk(gate.isOpen, 'the old ones are forgotten')
  for (let round = 0; round < 3; round++) {
    await fail(2)
    await answer()
  }
  t.notOk(gate.isOpen, 'ten of them')
  await fail(1)
  t.ok(gate.isOpen, 'eleven of them')
})

t.test('while it is open everybody is turned away at once, and the source is asked for nobody but the probe', async t => {
  const { source, gate, ask, fail } = bundle()
  await fail(5)
  const before = source.calls.length
  for (const result of await ask('bob', 'eve')) t.match(result, { status: 'rejected', reason: { code: 'ORI_SOURCE_UNAVAILABLE', retryAfterMs: 1000, cause: down } }, 'and told why')
  t.equal(source.calls.length, before)
  t.match(gate.stats(), { circuitRefusals: 2, circuitProbes: 1 })
})

t.test('one probe is under way at a time: at once, and 250 to 500 ms after one that failed', async t => {
  for (const [random, pauseMs] of [[0, 250], [0.5, 375], [1, 500]] as const) {
    const { clock, source, gate, fail } = bundle({ random: () => random })
    await fail(5)
    const before = source.calls.length
    t.equal(before, 6)
    source.last.fail('ada', down)
    await clock.settle()
    clock.advance(pauseMs - 1)
    t.equal(source.calls.length, before)
    clock.advance(1)
    t.equal(source.calls.length, before + 1)
    clock.advance(1999)
    t.equal(source.calls.length, before + 1, 'it hangs')
    clock.advance(1)
    t.ok(source.last.deadline.signal.aborted)
    clock.advance(pauseMs)
    t.equal(source.calls.length, before + 2)
    gate.stop()
  }
})

t.test('a probe asks for the user who was turned away last, as that request would have, and forces nothing', async t => {
  const { clock, source, ask, fail } = bundle()
  await fail(5)
  t.match(source.last.requests, [{ subject: 'ada', identity: { subject: 'ada' }, force: false }])
  await ask('bob')
  await ask('eve')
  source.last.fail('ada', down)
  await clock.settle()
  clock.advance(250)
  t.match(source.last.requests, [{ subject: 'eve', identity: { subject: 'eve' }, force: false }])
})

t.test('the first answer closes it: that of a probe, of a load from before, or a defect', async t => {
  const closings: ReadonlyArray<(source: HandSource) => void> = [
    source => { source.last.answer('ada') },
    source => { source.last.fail('ada', new TypeError('a defect')) },
    source => { source.calls[0]!.answer('early') }
  ]
  for (const close of closings) {
    const { clock, source, gate, ask, fail } = bundle()
    ask('early').catch(() => {})
    await fail(5)
    t.ok(gate.isOpen)
    close(source)
    await clock.settle()
    t.notOk(gate.isOpen)
    source.reply = request => recordOf(request.subject)
    t.match(await ask('ada'), [{ status: 'fulfilled' }])
    clock.advance(10_000)
    t.match(gate.stats(), { circuitProbes: 1, circuitOpenings: 1 })
  }
})

t.test('what was sent before it closed says nothing about the time after', async t => {
  const { clock, source, gate, ask, fail } = bundle()
  const early = Array.from({ length: 6 }, () => ask('early'))
  await fail(5)
  source.last.answer('ada')
  await clock.settle()
  t.notOk(gate.isOpen)
  clock.advance(2000)
  for (const call of source.calls) if (call.subjects[0] === 'early') call.fail('early', down)
  await Promise.all(early)
  t.notOk(gate.isOpen)
})

t.test('a batch failed only when none of its answers came', async t => {
  const { clock, source, gate, ask } = bundle()
  for (let time = 0; time < 6; time++) {
    const asked = ask('known', 'unknown')
    source.last.fail('unknown', down)
    source.last.answer('known')
    await asked
  }
  t.notOk(gate.isOpen, 'the provider does not answer for those who are new')
  for (let time = 0; time < 5; time++) {
    const asked = ask('ada', 'bob')
    source.last.fail('ada', down)
    source.last.fail('bob', down)
    await asked
  }
  t.ok(gate.isOpen)
  gate.stop()
  await clock.settle()
})

t.test('a batch that is not answered by its deadline failed, once', async t => {
  const { clock, gate, ask } = bundle()
  for (let time = 0; time < 4; time++) ask('ada', 'bob').catch(() => {})
  clock.advance(2000)
  t.notOk(gate.isOpen)
  ask('ada').catch(() => {})
  clock.advance(2000)
  t.ok(gate.isOpen)
  gate.stop()
})

t.test('a source that breaks its contract is a defect with a code, and opens nothing', async t => {
  const broken: ReadonlyArray<readonly [UserSource['load'] | null, { code?: string, message?: string | RegExp }]> = [
    [() => { throw new Error('boom') }, { message: 'boom' }],
    [() => [], { code: 'ORI_CACHE_MALFORMED_BATCH', message: /2 requests.*a list of 0/ }],
    [() => [Promise.reject(new Error('of no interest'))], { code: 'ORI_CACHE_MALFORMED_BATCH' }],
    [() => 'users' as never, { code: 'ORI_CACHE_MALFORMED_BATCH', message: /type string/ }],
    [null, { code: 'ORI_CACHE_NO_SOURCE', message: /option "source"/ }]
  ]
  for (const [load, error] of broken) {
    const { clock, gate } = bundle({ load })
    for (let time = 0; time < 6; time++) t.throws(() => gate.load([requestFor('ada'), requestFor('bob')], startDeadline(clock, 2000)), error as Error)
    t.notOk(gate.isOpen)
  }
})

t.test('a source that throws SourceUnavailable instead of answering is unavailable, in probes too', async t => {
  let reached = false
  const { clock, gate } = bundle({
    load: batch => {
      if (!reached) throw down
      return batch.map(async ({ subject }) => recordOf(subject))
    }
  })
  for (let time = 0; time < 5; time++) t.throws(() => gate.load([requestFor('ada')], startDeadline(clock, 2000)), down)
  t.ok(gate.isOpen)
  reached = true
  clock.advance(250)
  await clock.settle()
  t.notOk(gate.isOpen)
})

t.test('once stopped it sends no probe', async t => {
  const { clock, source, gate, fail } = bundle()
  await fail(5)
  source.last.fail('ada', down)
  await clock.settle()
  const before = source.calls.length
  gate.stop()
  clock.advance(10_000)
  t.equal(source.calls.length, before)
})

t.test('opening and closing are published', async t => {
  const events: GateEvent[] = []
  listen(t, 'gate', event => { events.push(event as GateEvent) })
  const { clock, source, fail } = bundle()
  await fail(5)
  source.last.answer('ada')
  await clock.settle()
  t.same(events, [{ state: 'open' }, { state: 'closed' }])
})

t.test('resolving', async t => {
  t.test('a known user waits 75 ms for a source that hangs, then is served marked, and the load goes on', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 2000 })
    clock.advance(2000)
    const early = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    clock.advance(74)
    const late = manager.resolve(identityOf('ada'), route)
    t.equal(manager.cache.stats().waiting, 2)
    clock.advance(1)
    t.match(await early, { stale: true, from: 'cache' })
    t.equal(manager.cache.stats().waiting, 1)
    source.last.answer('ada', recordOf('ada', { revision: 2 }))
    t.match(await late, { stale: false, from: 'source' })
    t.match(manager.resolve(identityOf('ada'), route), { stale: false, from: 'cache' })
    t.equal(source.calls.length, 1)
    t.match(manager.stats(), { staleHits: 1, missesExpired: 1, waiting: 0 })
  })

  t.test('where a route refuses stale users it waits for the source', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 2000 })
    clock.advance(2000)
    const outcome = manager.resolve(identityOf('ada'), failing)
    await clock.settle()
    clock.advance(1000)
    source.last.answer('ada')
    t.match(await outcome, { stale: false, from: 'source' })
  })

  t.test('a user who is invalidated while a request waits out its patience is not served from memory', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada'], { expireAfterMs: 2000 })
    clock.advance(2000)
    const outcome = manager.resolve(identityOf('ada'), route)
    await clock.settle()
    cache.invalidateUser(keyOf('ada'))
    clock.advance(75)
    await clock.settle()
    source.last.answer('ada', recordOf('ada', { revision: 2 }))
    t.match(await outcome, { stale: false, from: 'source' })
  })

  t.test('while the gate is open known users are served marked and others refused, without a promise, until the first answer', async t => {
    const { clock, source, manager } = await setupWith(['ada', 'fresh'], { expireAfterMs: 2000 })
    clock.advance(1999)
    for (let time = 0; time < 5; time++) {
      const lost = manager.resolve(identityOf('lost'), route)
      await clock.settle()
      source.last.fail('lost', down)
      t.match(await lost, { kind: 'unavailable' })
    }
    t.ok(manager.gate.isOpen)
    t.match(manager.resolve(identityOf('fresh', { providerUpdatedAt: 7 }), route), { stale: false }, 'a claim is not followed up')
    clock.advance(1)
    t.match(manager.resolve(identityOf('ada'), route), { kind: 'user', stale: true })
    t.match(manager.resolve(identityOf('ada'), failing), { kind: 'unavailable', retryAfterMs: 1000 })
    t.match(manager.resolve(identityOf('lost'), route), { kind: 'unavailable', retryAfterMs: 1000 })
    t.rejects(manager.cache.refresh(keyOf('ada')), SourceUnavailable)
    await clock.settle()
    const { cacheHits, staleHits, negativeHits, cacheMisses, lookups } = manager.stats()
    t.equal(cacheHits + staleHits + negativeHits + cacheMisses, lookups)
    t.match(manager.stats(), { staleHits: 1, missesExpired: 1, missesCold: 6, circuitOpen: 1, loads: 8 })
    source.last.answer('lost', { kind: 'unknown', revision: 0 })
    await clock.settle()
    source.reply = request => recordOf(request.subject)
    t.match(await manager.resolve(identityOf('ada'), route), { stale: false, from: 'source' })
    t.match(await manager.resolve(identityOf('lost'), route), { kind: 'user' })
  })

  t.test('the last bound on what is kept holds while the gate is open, too', async t => {
    const { clock, source, manager } = await setupWith(['ada'], { expireAfterMs: 2000, staleIfErrorMs: 500 })
    source.reply = () => { throw down }
    for (let time = 0; time < 5; time++) await manager.resolve(identityOf('lost'), route)
    clock.advance(2499)
    t.match(manager.resolve(identityOf('ada'), route), { stale: true })
    clock.advance(1)
    t.match(manager.resolve(identityOf('ada'), route), { kind: 'unavailable' })
    await manager.close()
  })

  t.test('loads beyond maxLoads are not begun', async t => {
    const { clock, source, manager, cache } = await setupWith(['ada', 'bob'], { maxLoads: 2, expireAfterMs: 2000, refreshAfterMs: 1000 })
    const waiting = [manager.resolve(identityOf('1'), route), manager.resolve(identityOf('2'), route)]
    t.match(await manager.resolve(identityOf('3'), route), { kind: 'unavailable', cause: { message: /2 loads/ } })
    clock.advance(1500)
    t.match(manager.resolve(identityOf('ada'), route), { stale: false }, 'nor behind a hit')
    clock.advance(500)
    t.match(await manager.resolve(identityOf('ada'), route), { stale: true })
    const shared = manager.resolve(identityOf('1'), route)
    await clock.settle()
    t.match(cache.stats(), { inFlight: 2, refreshes: 0 })
    source.last.answer('1')
    source.last.answer('2')
    for (const outcome of [...waiting, shared]) t.match(await outcome, { kind: 'user' })
  })
})

function listen (t: Test, name: keyof typeof channels, listener: (event: unknown) => void): void {
  channels[name].subscribe(listener)
  t.teardown(() => channels[name].unsubscribe(listener))
}
