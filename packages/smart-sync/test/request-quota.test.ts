import { startDeadline, type Deadline } from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import fc from 'fast-check'
import t from 'tap'
import { defaultQuota } from '../src/clerk/default-quota.js'
import { RequestQuota, type QuotaAnswer, type RequestPermit } from '../src/clerk/request-quota.js'
import type { LookUpPriority } from '../src/identity-provider.js'

/** The property test lets time pass in steps of this many milliseconds: all its times are whole steps. */
const stepMs = 50
type Arbitraries<T> = { [P in keyof T]: fc.Arbitrary<T[P]> }
const step = <K extends string, T>(kind: K, more: Arbitraries<T>): fc.Arbitrary<T & { kind: K }> => {
  return fc.record(more).map(values => ({ ...values as T, kind }))
}
const steps = (max: number, min = 0): fc.Arbitrary<number> => {
  return fc.integer({ min, max: max / stepMs }).map(count => count * stepMs)
}
const priorities: readonly LookUpPriority[] = ['interactive', 'webhook', 'backfill']

/** Lets what has been settled be heard: promises only, no time passes. */
async function heard (): Promise<void> {
  for (let turn = 0; turn < 6; turn++) await null
}

interface Asked {
  readonly answer: () => QuotaAnswer | null
  readonly permit: () => RequestPermit
  readonly abort: () => void
}

interface Bundle {
  readonly clock: ManualClock
  readonly ask: (priority: LookUpPriority, withinMs?: number) => Promise<Asked>
  readonly pass: (ms: number) => Promise<void>
}

function setup (maxRequests: number, windowMs = 1000): Bundle {
  const clock = new ManualClock()
  const quota = new RequestQuota({ maxRequests, windowMs, clock })
  return {
    clock,
    async ask (priority, withinMs = 100_000) {
      const control = new AbortController()
      const timed = startDeadline(clock, withinMs)
      const deadline: Deadline = { atMs: timed.atMs, signal: AbortSignal.any([timed.signal, control.signal]) }
      let answer: QuotaAnswer | null = null
      quota.acquire(priority, deadline).then(given => { answer = given; timed.release() }, () => {})
      await heard()
      return {
        answer: () => answer,
        permit: () => {
          if (answer?.kind !== 'granted') throw new Error(`there is no permit: ${JSON.stringify(answer)}`)
          return answer.permit
        },
        abort: () => { control.abort() }
      }
    },
    async pass (ms) {
      clock.advance(ms)
      await heard()
    }
  }
}

const kinds = (all: readonly Asked[]): Array<string | undefined> => all.map(({ answer }) => answer()?.kind)

t.test('a quota of requests', async t => {
  t.test('grants as many as a window takes at once, and one more for each that was taken a window ago', async t => {
    const { ask, pass } = setup(3)
    const first = await ask('interactive')
    await pass(400)
    const more: Asked[] = []
    for (let n = 0; n < 4; n++) more.push(await ask('interactive'))
    t.same(kinds([first, ...more]), ['granted', 'granted', 'granted', undefined, undefined])
    await pass(599)
    t.same(kinds(more.slice(2)), [undefined, undefined])
    await pass(1)
    t.same(kinds(more.slice(2)), ['granted', undefined], 'in their order')
    await pass(400)
    t.same(kinds(more.slice(3)), ['granted'])
  })

  t.test('keeps a quarter for what is above webhooks, and half for what is above backfill', async t => {
    const { ask, pass } = setup(8)
    const backfill: Asked[] = []
    for (let n = 0; n < 5; n++) backfill.push(await ask('backfill'))
    t.same(kinds(backfill), ['granted', 'granted', 'granted', 'granted', undefined])
    const webhooks = [await ask('webhook'), await ask('webhook'), await ask('webhook')]
    t.same(kinds(webhooks), ['granted', 'granted', undefined])
    const interactive = [await ask('interactive'), await ask('interactive'), await ask('interactive')]
    t.same(kinds(interactive), ['granted', 'granted', undefined])
    await pass(1000)
    t.same(kinds([...interactive, ...webhooks, ...backfill].slice(2)), Array.from({ length: 9 }, () => 'granted'))
  })

  t.test('serves an interactive request before all that have waited longer', async t => {
    const { ask, pass } = setup(1)
    await ask('interactive')
    const waiting = [await ask('backfill'), await ask('webhook'), await ask('interactive')]
    for (let waits = 2; waits >= 0; waits--) {
      await pass(1000)
      t.same(kinds(waiting), [...Array(waits).fill(undefined), ...Array(3 - waits).fill('granted')])
    }
  })

  t.test('refuses what cannot be served before its deadline at once, and what waits when it passes', async t => {
    const { ask, pass, clock } = setup(1)
    await ask('interactive')
    t.same((await ask('interactive', 999)).answer(), { kind: 'refused', reason: 'exhausted', retryAfterMs: 1000 })
    const ahead = await ask('interactive', 1500)
    const behind = await ask('interactive', 1500)
    await pass(1000)
    t.same(kinds([ahead, behind]), ['granted', undefined])
    await pass(500)
    t.same(behind.answer(), { kind: 'refused', reason: 'exhausted', retryAfterMs: 500 })
    t.equal(clock.pendingTimers, 0)
  })

  t.test('forgets a request that is given up, which takes no token', async t => {
    const { ask, pass, clock } = setup(1)
    await ask('interactive')
    const [leaves, stays] = [await ask('interactive'), await ask('interactive')]
    leaves.abort()
    await heard()
    t.equal(leaves.answer()?.kind, 'refused')
    await pass(1000)
    t.equal(stays.answer()?.kind, 'granted')
    const gone = await ask('interactive')
    gone.abort()
    await heard()
    t.equal(clock.pendingTimers, 0, 'nothing is left to be served')
    const control = AbortSignal.abort()
    const quota = new RequestQuota({ maxRequests: 1, windowMs: 1000, clock })
    const deadline = { atMs: clock.monotonic() + 500, signal: AbortSignal.any([]) }
    t.equal((await quota.acquire('interactive', { ...deadline, signal: control })).kind, 'refused')
    t.equal((await quota.acquire('interactive', deadline)).kind, 'granted', 'and the token is there')
  })

  t.test('sends nothing while a 429 pauses it, then one request a second until one is taken', async t => {
    const { ask, pass } = setup(100)
    const sent = [await ask('interactive'), await ask('interactive')]
    sent[0]!.permit().throttled(5000)
    const hopeless = await ask('interactive', 4999)
    t.same(hopeless.answer(), { kind: 'refused', reason: 'paused', retryAfterMs: 5000 })
    const waiting: Asked[] = []
    for (let n = 0; n < 4; n++) waiting.push(await ask('interactive'))
    sent[1]!.permit().accepted()
    await pass(4999)
    t.same(kinds(waiting), [undefined, undefined, undefined, undefined], 'one that was sent before tells nothing')
    await pass(1)
    t.same(kinds(waiting), ['granted', undefined, undefined, undefined])
    await pass(999)
    t.equal(kinds(waiting)[1], undefined)
    await pass(1)
    t.equal(kinds(waiting)[1], 'granted')
    waiting[0]!.permit().accepted()
    await heard()
    t.same(kinds(waiting), ['granted', 'granted', 'granted', 'granted'])
  })

  t.test('refuses at a 429 what waits and cannot be served after it, and pauses for the longest of several', async t => {
    const { ask, pass } = setup(2)
    const sent = [await ask('interactive'), await ask('interactive')]
    const [short, long] = [await ask('backfill', 2000), await ask('interactive', 8000)]
    sent[0]!.permit().throttled(6000)
    sent[1]!.permit().throttled(0)
    await heard()
    t.match(short.answer(), { kind: 'refused', reason: 'paused', retryAfterMs: 6000 })
    await pass(5999)
    t.equal(long.answer(), null)
    await pass(1)
    t.equal(long.answer()?.kind, 'granted')
  })

  t.test('takes by default four fifths of what Clerk takes for the kind of key', async t => {
    t.same(defaultQuota('sk_live_x'), { maxRequests: 800, windowMs: 10_000 })
    t.same(defaultQuota('sk_test_x'), { maxRequests: 80, windowMs: 10_000 })
  })

  t.test('does what a plain model of it does, whatever is asked, given up, taken and refused', async t => {
    const command = fc.oneof(
      { weight: 6, arbitrary: step('ask', { priority: fc.constantFrom(...priorities), withinMs: steps(4000) }) },
      { weight: 4, arbitrary: step('pass', { ms: steps(700, 1) }) },
      { weight: 1, arbitrary: step('abort', { index: fc.nat() }) },
      { weight: 1, arbitrary: step('accepted', { index: fc.nat() }) },
      { weight: 1, arbitrary: step('throttled', { index: fc.nat(), ms: steps(2500) }) }
    )
    const limits = fc.record({ maxRequests: fc.integer({ min: 1, max: 9 }), windowMs: steps(900, 1) })
    let granted = 0
    let waited = 0
    let givenUp = 0
    const commandLists = fc.array(command, { minLength: 30, maxLength: 60 })
    await fc.assert(fc.asyncProperty(limits, commandLists, async ({ maxRequests, windowMs }, commands) => {
      const { clock, ask, pass } = setup(maxRequests, windowMs)
      const model = new Model(maxRequests, windowMs)
      const asked: Asked[] = []
      const same = (): void => {
        const real = asked.map(({ answer }) => answer()?.kind ?? 'waiting')
        const expected = model.requests.map(({ state }) => state)
        const shown = `at ${clock.monotonic()}:\n${real.join(' ')}\n${expected.join(' ')}`
        if (real.join() !== expected.join()) throw new Error(shown)
      }
      const chosen = (index: number, state: Request['state']): number => {
        const those = model.requests.flatMap((request, at) => request.state === state ? [at] : [])
        return those.length === 0 ? -1 : those[index % those.length]!
      }
      for (const step of [...commands, { kind: 'pass' as const, ms: 9000 }]) {
        if (step.kind === 'pass') {
          for (let ms = 0; ms < step.ms; ms += stepMs) {
            await pass(stepMs)
            model.tick(clock.monotonic())
            same()
          }
        } else if (step.kind === 'ask') {
          // Half a step: a deadline never falls on the instant of a grant.
          asked.push(await ask(step.priority, step.withinMs + stepMs / 2))
          model.ask(step.priority, clock.monotonic(), step.withinMs + stepMs / 2)
        } else {
          const at = chosen(step.index, step.kind === 'abort' ? 'waiting' : 'granted')
          if (at === -1) continue
          if (step.kind === 'abort') {
            asked[at]!.abort()
            model.abort(at)
          } else if (step.kind === 'accepted') {
            asked[at]!.permit().accepted()
            model.accepted(at)
          } else {
            asked[at]!.permit().throttled(step.ms)
            model.throttled(clock.monotonic(), step.ms)
          }
          await heard()
        }
        model.tick(clock.monotonic())
        same()
      }
      if (clock.pendingTimers !== 0) throw new Error('a timer is left')
      model.check()
      granted += model.grants.length
      waited += model.grants.filter(({ askedAtMs, grantedAtMs }) => grantedAtMs > askedAtMs).length
      givenUp += model.requests.filter(({ state }) => state === 'refused').length
    }), { numRuns: 300 })
    const seen = `${granted} granted, ${waited} of them waited, ${givenUp} refused`
    t.ok(granted > 300 && waited > 60 && givenUp > 100, seen)
  })
})

interface Request {
  readonly priority: LookUpPriority
  readonly askedAtMs: number
  readonly deadlineMs: number
  grantedAtMs: number
  throttlesBefore: number
  state: 'waiting' | 'granted' | 'refused'
}

/** The quota as one would describe it: counts every time, looks at every step. */
class Model {
  readonly requests: Request[] = []
  readonly grants: Request[] = []
  readonly #pauses: Array<readonly [fromMs: number, untilMs: number]> = []
  readonly #maxRequests: number
  readonly #windowMs: number
  #throttles = 0
  #isThrottled = false
  #pausedUntilMs = -Infinity
  #nowMs = -Infinity

  constructor (maxRequests: number, windowMs: number) {
    this.#maxRequests = maxRequests
    this.#windowMs = windowMs
  }

  ask (priority: LookUpPriority, nowMs: number, withinMs: number): void {
    const deadlineMs = nowMs + withinMs
    const own: Request = {
      priority, askedAtMs: nowMs, deadlineMs, grantedAtMs: Infinity, throttlesBefore: 0, state: 'waiting'
    }
    this.requests.push(own)
    this.#nowMs = nowMs
    if (this.#isHopeless(own)) own.state = 'refused'
  }

  abort (index: number): void {
    this.requests[index]!.state = 'refused'
  }

  accepted (index: number): void {
    if (!this.#isThrottled || this.requests[index]!.throttlesBefore !== this.#throttles) return
    this.#isThrottled = false
    this.#pausedUntilMs = -Infinity
  }

  throttled (nowMs: number, ms: number): void {
    this.#nowMs = nowMs
    this.#throttles++
    this.#isThrottled = true
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, nowMs + Math.max(1000, ms))
    this.#pauses.push([nowMs, nowMs + Math.max(1000, ms)])
    for (const request of this.#waiting()) if (this.#isHopeless(request)) request.state = 'refused'
  }

  tick (nowMs: number): void {
    this.#nowMs = nowMs
    for (const request of this.#waiting()) if (request.deadlineMs < nowMs) request.state = 'refused'
    for (const priority of priorities) {
      for (const request of this.#waiting().filter(one => one.priority === priority)) {
        if (nowMs < this.#pausedUntilMs || this.#freeAt(nowMs) <= this.#reserveOf(priority)) break
        request.state = 'granted'
        request.grantedAtMs = nowMs
        request.throttlesBefore = this.#throttles
        if (this.#isThrottled) this.#pausedUntilMs = nowMs + 1000
        this.grants.push(request)
      }
    }
  }

  /** What must hold of what was granted, whatever the rules of serving are. */
  check (): void {
    for (const [index, { grantedAtMs, deadlineMs }] of this.grants.entries()) {
      const later = this.grants[index + this.#maxRequests]
      const apartMs = (later?.grantedAtMs ?? Infinity) - grantedAtMs
      if (apartMs < this.#windowMs) throw new Error('too many in a window')
      if (grantedAtMs > deadlineMs) throw new Error('granted after the deadline')
      const isPaused = this.#pauses.some(([from, until]) => grantedAtMs > from && grantedAtMs < until)
      if (isPaused) throw new Error('granted in a pause')
      for (const other of this.requests) {
        const isAbove = priorities.indexOf(other.priority) < priorities.indexOf(this.grants[index]!.priority)
        const waited = other.askedAtMs < grantedAtMs && other.state === 'granted' && other.grantedAtMs > grantedAtMs
        if (isAbove && waited) throw new Error('a request of higher priority was left waiting')
      }
    }
    if (this.#waiting().length > 0) throw new Error('a request waits for ever')
  }

  #waiting (): Request[] {
    return this.requests.filter(({ state }) => state === 'waiting')
  }

  #freeAt (nowMs: number): number {
    const last = this.grants.slice(-this.#maxRequests)
    return this.#maxRequests - last.filter(({ grantedAtMs }) => grantedAtMs + this.#windowMs > nowMs).length
  }

  #reserveOf (priority: LookUpPriority): number {
    return Math.floor(this.#maxRequests * { interactive: 0, webhook: 0.25, backfill: 0.5 }[priority])
  }

  /** Whether no token is there before its deadline, even if no other request takes one. */
  #isHopeless ({ priority, deadlineMs }: Request): boolean {
    for (let nowMs = this.#nowMs; nowMs <= deadlineMs; nowMs += stepMs) {
      if (nowMs >= this.#pausedUntilMs && this.#freeAt(nowMs) > this.#reserveOf(priority)) return false
    }
    return true
  }
}
