import fc from 'fast-check'
import t from 'tap'
import { databaseFailureOf } from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import { PoolCore, type Member, type PoolCoreOptions } from '../src/pool-core.js'
import { verdictOf } from '../src/release-verdict.js'
import { Retry } from '../src/retry.js'

type Health = 'good' | 'dead' | 'mute'

class FakeConnection {
  transactionStatus: 'I' | 'T' | 'E' = 'I'
  settled = true
  isOutdated = false
  hasStatements = false
  health: Health = 'good'
  destroyed = false
  closed = false
  waiting: (() => void) | null = null
  readonly #world: World
  constructor (world: World) { this.#world = world }
  settle (done: () => void): void { this.waiting = done }
  ping (): Promise<void> { return this.#answer() }
  async reset (): Promise<void> {
    await this.#answer()
    this.transactionStatus = 'I'
    this.isOutdated = false
  }

  outdate (): void { this.isOutdated ||= this.hasStatements }
  close (): void { this.closed = true; this.#world.open.delete(this) }
  destroy (): void { this.destroyed = true; this.#world.open.delete(this) }
  #answer (): Promise<void> {
    if (this.health === 'mute') return new Promise(() => {})
    return this.health === 'dead' ? Promise.reject(new Error('dead')) : Promise.resolve()
  }
}

const options: PoolCoreOptions = {
  size: 2,
  overflow: 2,
  timeoutMs: 1000,
  connectTimeoutMs: 500,
  recycleMs: 100_000,
  pingAfterIdleMs: 1000,
  pingTimeoutMs: 200,
  resetTimeoutMs: 100,
  overflowIdleMs: 5000,
  minConnections: 0,
  connectRamp: 4,
  alwaysReset: false
}

class World {
  readonly clock = new ManualClock()
  readonly open = new Set<FakeConnection>()
  readonly lost = new Map<FakeConnection, () => void>()
  readonly core: PoolCore<FakeConnection>
  opening: 'works' | 'refused' | 'full' | 'hangs' = 'works'
  attempts = 0
  most = 0
  constructor (changes: Partial<PoolCoreOptions> = {}) {
    this.core = new PoolCore<FakeConnection>({ ...options, ...changes }, {
      clock: this.clock,
      random: () => 0.5,
      open: async (lost, signal) => {
        this.attempts++
        if (this.opening === 'refused') throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
        if (this.opening === 'full') throw Object.assign(new Error('full'), { code: '53300' })
        if (this.opening === 'hangs') await new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(new Error('hung')) }) })
        const connection = new FakeConnection(this)
        this.open.add(connection)
        this.most = Math.max(this.most, this.open.size)
        this.lost.set(connection, () => { lost(connection) })
        return connection
      }
    })
  }

  take (): Promise<Member<FakeConnection>> {
    return new Promise((resolve, reject) => {
      this.core.acquire({}, (error, member) => {
        if (error === null) resolve(member!)
        else reject(error)
      })
    })
  }

  takeAll (count: number): Promise<Array<Member<FakeConnection>>> {
    return Promise.all(Array.from({ length: count }, () => this.take()))
  }
}

t.test('lends at once what is proven, the last returned first', async t => {
  const { core, ...world } = new World()
  t.equal(core.tryAcquire(), null)
  t.ok(world)
  const w = new World()
  const [a, b] = await w.takeAll(2)
  w.core.release(a!, 'keep')
  w.core.release(b!, 'keep')
  t.equal(w.core.tryAcquire(), b)
  t.match(w.core.stats(), { total: 2, idle: 1, lent: 1, checkouts: 3, immediateCheckouts: 1 })
  t.equal(w.core.release(a!, 'keep'), false, 'what is not lent cannot be released')
})

t.test('waiters are served in order, and nobody beyond the limit', async t => {
  const w = new World()
  const lent = await w.takeAll(4)
  const order: number[] = []
  const waiting = [1, 2].map(async number => { const member = await w.take(); order.push(number); return member })
  await w.clock.settle()
  t.equal(w.attempts, 4)
  w.core.release(lent[0]!, 'keep')
  w.core.release(lent[1]!, 'broken')
  await Promise.all(waiting)
  t.same(order, [1, 2])
  t.equal(w.core.limit, 4)
})

t.test('a waiter leaves at its deadline or signal with an error that explains', async t => {
  const w = new World({ size: 1, overflow: 0 })
  await w.take()
  const late = w.take()
  w.clock.advance(1000)
  await t.rejects(late, { code: 'ORI_POOL_CHECKOUT_TIMEOUT', databaseFailure: 'unsent', message: /1 lent of 1 open/ })
  const controller = new AbortController()
  const left = new Promise((_resolve, reject) => { w.core.acquire({ signal: controller.signal }, (error: Error | null) => { const reason: Error = error!; reject(reason) }) })
  controller.abort(new Error('gone'))
  await t.rejects(left, { code: 'ORI_POOL_CHECKOUT_TIMEOUT', cause: { message: 'gone' } })
  await t.rejects(new Promise((_resolve, reject) => { w.core.acquire({ signal: controller.signal }, (error: Error | null) => { const reason: Error = error!; reject(reason) }) }), { code: 'ORI_POOL_CHECKOUT_TIMEOUT' })
  t.equal(w.core.stats().timeouts, 3)
})

t.test('after an idle while a connection is pinged; silence costs the trust of all as old, and one waiter at most', async t => {
  const w = new World({ overflow: 0, size: 4 })
  for (const member of await w.takeAll(4)) w.core.release(member, 'keep')
  for (const connection of w.open) connection.health = 'mute'
  w.clock.advance(1500)
  t.equal(w.core.tryAcquire(), null)
  const next = w.take()
  w.clock.advance(100)
  w.clock.advance(100)
  const member = await next
  t.equal(member.connection.health, 'good')
  t.match(w.core.stats(), { total: 1, failedPings: 1 }, 'all four are gone')
  w.core.release(member, 'keep')
  t.ok(w.core.tryAcquire())
})

t.test('a good ping lends, a dead one is replaced', async t => {
  const w = new World({ size: 1, overflow: 0 })
  const first = await w.take()
  w.core.release(first, 'keep')
  w.clock.advance(2000)
  t.equal(await w.take(), first)
  w.core.release(first, 'keep')
  first.connection.health = 'dead'
  w.clock.advance(2000)
  t.not(await w.take(), first)
})

t.test('a connection that comes back is settled and reset before anybody gets it, or given up', async t => {
  const w = new World({ size: 1, overflow: 0 })
  const first = await w.take()
  first.connection.transactionStatus = 'T'
  w.core.release(first, 'keep')
  t.equal(w.core.tryAcquire(), null)
  t.equal(await w.take(), first)
  t.equal(first.connection.transactionStatus, 'I')

  first.connection.settled = false
  w.core.release(first, 'keep')
  const waiting = w.take()
  first.connection.settled = true
  first.connection.waiting!()
  t.equal(await waiting, first)

  first.connection.settled = false
  w.core.release(first, 'keep')
  w.clock.advance(100)
  t.ok(first.connection.destroyed, 'without an answer the socket is cut')
  const second = await w.take()
  second.connection.transactionStatus = 'E'
  second.connection.health = 'dead'
  w.core.release(second, 'keep')
  await w.clock.settle()
  t.ok(second.connection.destroyed, 'a reset that fails too')
})

t.test('a place is free the moment a lent connection is lost, and its release does nothing', async t => {
  const w = new World({ size: 1, overflow: 0 })
  const first = await w.take()
  const waiting = w.take()
  w.lost.get(first.connection)!()
  w.lost.get(first.connection)!()
  t.not(await waiting, first)
  t.equal(w.core.release(first, 'keep'), false)
  t.equal(w.core.stats().lost, 1)
})

t.test('what a failed statement says of its connection decides over the others', async t => {
  for (const [verdict, left] of [['severed', 3], ['silent', 0], ['demoted', 0], ['broken', 3]] as const) {
    const w = new World()
    const members = await w.takeAll(4)
    for (const member of members.slice(1)) w.core.release(member, 'keep')
    w.clock.advance(1)
    w.core.release(members[0]!, verdict)
    t.equal(w.core.stats().idle, left, verdict)
    t.equal(w.core.tryAcquire() === null, verdict !== 'broken', `${verdict}: the others are lent without a ping or not`)
  }
  const w = new World()
  const [a, b] = await w.takeAll(2)
  w.core.demote()
  w.core.demote()
  w.core.release(a!, 'keep')
  t.ok(a!.connection.closed, 'lent before the demotion, dialled again after')
  w.core.release(b!, 'keep')
  t.equal(w.core.stats().total, 0)
})

t.test('a connection on which statements are outdated forgets them before it is lent again, idle or lent when the table changed', async t => {
  const w = new World()
  const [idle, none, lent, last] = await w.takeAll(4)
  for (const member of [idle, lent, last]) member!.connection.hasStatements = true
  w.core.release(idle!, 'keep')
  w.core.release(none!, 'keep')
  last!.connection.isOutdated = true
  w.core.outdate()
  t.equal(w.core.stats().idle, 1, 'one that prepared nothing stays as it is')
  w.core.release(lent!, 'keep')
  t.match(w.core.stats(), { idle: 1, resets: 2 })
  await w.clock.settle()
  t.equal(w.core.stats().idle, 3)
  for (const { connection } of [idle!, lent!]) t.notOk(connection.isOutdated)

  w.core.outdate()
  t.equal(w.core.stats().resets, 2, 'one change is told by many')
  w.clock.advance(1000)
  lent!.connection.health = 'dead'
  w.core.outdate()
  await w.clock.settle()
  t.ok(lent!.connection.destroyed, 'one that cannot be rid of them is given up')
})

t.test('a refused connection fails those who wait for it; a full server lets them have what there is', async t => {
  const w = new World({ timeoutMs: 3000 })
  w.opening = 'refused'
  await t.rejects(w.take(), { code: 'ECONNREFUSED' })
  t.match(w.core.lastOpenError, { code: 'ECONNREFUSED' })
  w.opening = 'works'
  const first = await w.take()
  w.opening = 'full'
  const waiting = w.take()
  await w.clock.settle()
  t.equal(w.attempts, 3)
  w.core.release(first, 'keep')
  t.equal(await waiting, first)
  const late = w.take()
  await w.clock.settle()
  t.equal(w.attempts, 3, 'no attempt while the server is known to be full')
  w.opening = 'works'
  w.clock.advance(600)
  w.clock.advance(600)
  await w.clock.settle()
  t.not(await late, first)
})

t.test('an opener that hangs loses its place at the limit', async t => {
  const w = new World({ timeoutMs: 5000 })
  w.opening = 'hangs'
  const waiting = w.take()
  await w.clock.settle()
  w.clock.advance(500)
  await t.rejects(waiting, { code: 'ORI_POOL_CONNECT_TIMEOUT', statusCode: 503, databaseFailure: 'unsent', message: /^No connection within 500 ms\. The rule: .*"connectTimeoutMs"/ })
  t.equal(w.core.stats().opening, 0)
})

t.test('overflow is closed after a while, the minimum is kept, and lost connections of it are opened again', async t => {
  const w = new World({ minConnections: 1 })
  w.core.start()
  await w.clock.settle()
  t.equal(w.open.size, 1)
  for (const member of await w.takeAll(4)) w.core.release(member, 'keep')
  w.clock.advance(6000)
  t.equal(w.core.stats().total, 2)
  w.opening = 'refused'
  for (const [connection, lost] of [...w.lost]) { if (w.open.has(connection)) lost() }
  await w.clock.settle()
  w.opening = 'works'
  for (let round = 0; round < 8; round++) { w.clock.advance(500); await w.clock.settle() }
  t.equal(w.core.stats().total, 1)
})

t.test('eight connections of one age are never recycled within one percent of the lifetime of each other', async t => {
  const w = new World({ size: 8, overflow: 0, connectRamp: 8 })
  const members = await w.takeAll(8)
  const times = members.map(({ retireAtMs }) => retireAtMs).sort((a, b) => a - b)
  for (let index = 1; index < 8; index++) t.ok(times[index]! - times[index - 1]! >= 1000)
  for (const member of members) w.core.release(member, 'keep')
  w.clock.advance(100_000)
  t.match(w.core.stats(), { total: 0, recycled: 8 })
  const old = await w.take()
  w.clock.advance(100_000)
  w.core.release(old, 'keep')
  t.ok(old.connection.closed, 'one that was lent is recycled when it comes back')
})

t.test('drain serves nobody, waits for what is lent, and cuts it at the deadline', async t => {
  const w = new World()
  const [a] = await w.takeAll(2)
  const drained = w.core.drain(1000)
  await t.rejects(w.take(), { code: 'ORI_POOL_CLOSED' })
  w.core.release(a!, 'keep')
  w.clock.advance(1000)
  await drained
  t.equal(w.open.size, 0)
  const v = new World()
  v.opening = 'hangs'
  const waiting = v.take()
  await Promise.all([v.core.drain(10), t.rejects(waiting, { code: 'ORI_POOL_CLOSED' })])
})

t.test('verdicts follow the class of the failure', async t => {
  const verdicts: ReadonlyArray<readonly [string, string]> = [['23505', 'keep'], ['42601', 'keep'], ['40001', 'keep'], ['57014', 'keep'], ['53100', 'keep'], ['P0001', 'keep'], ['42501', 'keep'], ['42P01', 'keep'], ['26000', 'keep'], ['57P01', 'severed'], ['ECONNRESET', 'severed'], ['25006', 'demoted'], ['XX000', 'broken'], ['08P01', 'broken']]
  for (const [code, verdict] of verdicts) t.equal(verdictOf({ code }), verdict, code)
  t.equal(verdictOf({ databaseFailure: 'withdrawn' }), 'keep')
  t.equal(verdictOf(new Error('Query read timeout')), 'silent')
  t.equal(verdictOf(new Error('of the app')), 'broken')
  t.equal(verdictOf(null), 'broken')
})

t.test('retries are for failures of the connection, inside deadline, tries and budget', async t => {
  const clock = new ManualClock()
  const retry = new Retry({ tries: 6, firstPauseMs: 25, mostPauseMs: 400 }, clock, () => 1)
  const refused = { code: 'ECONNREFUSED' }
  const cut = { code: '57P01' }
  const far = clock.monotonic() + 10_000
  t.equal(retry.pauseMs(refused, 1, false, far), 25)
  t.equal(retry.pauseMs(cut, 1, false, far), null, 'never guessed')
  t.equal(retry.pauseMs(cut, 5, true, far), 400)
  t.equal(retry.pauseMs(cut, 6, true, far), null)
  t.equal(retry.pauseMs({ code: '23505' }, 1, true, far), null)
  t.equal(retry.pauseMs(refused, 1, true, clock.monotonic() + 25), null, 'not beyond the deadline')
  for (let n = 0; n < 300; n++) retry.pauseMs(refused, 1, true, far)
  t.equal(retry.retries, 200)
  for (let n = 0; n < 11; n++) retry.succeeded()
  t.equal(retry.pauseMs(refused, 1, true, far), 25, 'ten successes pay for one more')
  t.equal(retry.pauseMs({ code: '28P01', severity: 'FATAL' }, 1, true, far), null, 'what was withdrawn is never sent again')
  t.strictSame([retry.prepareAgain(1), retry.prepareAgain(6)], [true, false])
})

t.test('model: whatever happens, nobody waits for ever, nothing is lent twice, and the limit holds', async t => {
  const step = fc.oneof(
    fc.constant('take' as const), fc.constant('take' as const), fc.constant('return' as const), fc.constant('dirty' as const), fc.constant('broken' as const), fc.constant('silent' as const),
    fc.constant('lose' as const), fc.constant('mute' as const), fc.constant('wait' as const), fc.constant('idle' as const), fc.constant('refuse' as const), fc.constant('fill' as const), fc.constant('hang' as const), fc.constant('mend' as const))
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async steps => {
    const w = new World({ minConnections: 1 })
    w.core.start()
    const lent: Array<Member<FakeConnection>> = []
    const flaws: string[] = []
    let unanswered = 0
    for (const [index, kind] of steps.entries()) {
      const member = lent[index % Math.max(1, lent.length)]
      const giveBack = (verdict: 'keep' | 'broken' | 'silent'): void => {
        if (member === undefined) return
        lent.splice(lent.indexOf(member), 1)
        w.core.release(member, verdict)
      }
      switch (kind) {
        case 'take':
          unanswered++
          w.core.acquire({}, (error, taken) => {
            unanswered--
            if (error !== null) {
              if (databaseFailureOf(error) !== 'unsent') flaws.push(error.message)
              return
            }
            if (lent.includes(taken!)) flaws.push('lent twice')
            if (taken!.connection.destroyed || taken!.connection.transactionStatus !== 'I') flaws.push('lent unfit')
            lent.push(taken!)
          })
          break
        case 'return': giveBack('keep'); break
        case 'dirty': if (member !== undefined) member.connection.transactionStatus = 'T'; giveBack('keep'); break
        case 'broken': case 'silent': giveBack(kind); break
        case 'lose': { const victim = [...w.open][index % Math.max(1, w.open.size)]; if (victim !== undefined) { w.open.delete(victim); w.lost.get(victim)!() } break }
        case 'mute': for (const connection of w.open) connection.health = 'mute'; break
        case 'wait': w.clock.advance(60); break
        case 'idle': w.clock.advance(1500); break
        case 'refuse': w.opening = 'refused'; break
        case 'fill': w.opening = 'full'; break
        case 'hang': w.opening = 'hangs'; break
        case 'mend': w.opening = 'works'; break
      }
      if (index % 3 === 0) await w.clock.settle(1)
      const { total, opening, waiting, idle } = w.core.stats()
      if (total + opening > w.core.limit) throw new Error(`over the limit: ${total} + ${opening}`)
      if (waiting > 0 && idle > 0 && w.core.tryAcquire() !== null) throw new Error('a waiter beside a proven idle connection')
    }
    w.opening = 'works'
    for (const member of lent.splice(0)) w.core.release(member, 'broken')
    for (let round = 0; round < 6; round++) { await w.clock.settle(2); w.clock.advance(400) }
    if (unanswered > 0) flaws.push(`${unanswered} wait for ever`)
    if (flaws.length > 0) throw new Error(flaws.join(', '))
    const drained = w.core.drain(10)
    w.clock.advance(10)
    await drained
    if (w.open.size > 0 || w.core.stats().total > 0) throw new Error('left open')
  }), { numRuns: 150, interruptAfterTimeLimit: 20_000, markInterruptAsFailure: true })
})
