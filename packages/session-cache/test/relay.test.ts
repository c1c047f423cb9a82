import { sessionKey, sessionKeyHash, type UserChange } from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import fc from 'fast-check'
import t from 'tap'
import { ReconnectingBell, type ConnectionReports } from '../src/bell/reconnecting-bell.js'
import { relayLeaseMs, Relay, type RelayDeps, type Tail } from '../src/bell/relay.js'
import type { BusNews } from '../src/core.js'
import { maxRingBytes, messagesOf, ringOf } from '../src/testing.js'

const hashOf = (subject: string) => sessionKeyHash(sessionKey('https://issuer.test', subject))
const pauses = (atMs: readonly number[]): number[] => atMs.slice(1).map((ms, index) => ms - atMs[index]!)
const user = (n: number): UserChange => ({ kind: 'user', keyHash: hashOf(String(n)), revision: n })

t.test('rings', async t => {
  const change = fc.oneof(
    fc.constant<UserChange>({ kind: 'all' }),
    fc.record({ subject: fc.string({ minLength: 1 }), revision: fc.option(fc.maxSafeNat()) })
      .map(({ subject, revision }): UserChange => ({ kind: 'user', keyHash: hashOf(subject), revision }))
  )

  t.test('are read as they were written, none longer than NOTIFY takes', async () => {
    fc.assert(fc.property(fc.array(change, { maxLength: 300 }), changes => {
      const messages = messagesOf(changes)
      t.ok(messages.every(message => Buffer.byteLength(message) <= maxRingBytes))
      t.same(messages.flatMap(message => (ringOf(message) as { changes: UserChange[] }).changes), changes)
    }), { numRuns: 50 })
  })

  t.test('are one that makes all poll where changes would take more than 20 messages', async t => {
    t.same(messagesOf([]), [])
    const change: UserChange = { kind: 'user', keyHash: hashOf('x'), revision: null }
    const same = (length: number): UserChange[] => Array<UserChange>(length).fill(change)
    const fits = messagesOf(same(20 * 121))
    t.equal(fits.length, 20)
    t.same(messagesOf(same(20 * 121 + 1)), ['?'])
    t.same(messagesOf(Array.from({ length: 100_000 }, (_, n) => user(n))), ['?'])
  })

  t.test('that no bell has written are refused as a whole, and nothing throws', async t => {
    const keyHash = hashOf('x')
    const wrong = [
      '', ',', '??', '? ', `${keyHash},`, `,${keyHash}`, `${keyHash},?`, `${keyHash},,${keyHash}`,
      `${keyHash}, ${keyHash}`, `${keyHash}\n`, `${keyHash},hello`, 'x'.repeat(maxRingBytes),
      Array(4000).fill('*').join(',')
    ]
    for (const message of wrong) t.equal(ringOf(message), null, message.slice(0, 80))
    t.equal(ringOf('?'), 'poll')
    t.same(ringOf('*,*'), { changes: [{ kind: 'all' }, { kind: 'all' }] })
    const known = fc.constantFrom(',', '?', '*', ' ', '1', keyHash, `${keyHash} 7`)
    const piece = fc.oneof(fc.string({ unit: 'binary' }), known)
    fc.assert(fc.property(fc.oneof(fc.array(piece).map(pieces => pieces.join('')), fc.anything()), input => {
      const ring = ringOf(input as string)
      if (ring === null || ring === 'poll') return
      t.same(messagesOf(ring.changes).join(','), (input as string).replace(/(?<= )0+(?=\d)/g, ''))
    }), { numRuns: 500 })
  })
})

t.test('a bell that reconnects', async t => {
  /** A bell whose connections do as the test says. */
  const make = (open: () => Promise<string | null>, random = 0.5, check?: () => Promise<void>) => {
    const clock = new ManualClock()
    const dialledAtMs: number[] = []
    const news: BusNews[] = []
    const heard: string[] = []
    const made: ConnectionReports[] = []
    let isAnswering = true
    const waiting: Array<(error: Error) => void> = []
    const bell = new ReconnectingBell({
      name: 'test',
      connect: reports => {
        dialledAtMs.push(clock.monotonic())
        made.push(reports)
        return {
          open,
          ring: () => new Promise((_resolve, reject) => { waiting.push(reject) }),
          check: check ?? (async () => { if (!isAnswering) throw new Error('no') }),
          close: () => new Promise(() => {}),
          cut: () => { for (const reject of waiting.splice(0)) reject(new Error('cut')) }
        }
      },
      reasonOf: () => 'As the test says',
      checkIntervalMs: 10_000,
      timeoutMs: 2000,
      clock,
      random: () => random
    })
    const pass = async (ms: number): Promise<void> => {
      for (let passedMs = 0; passedMs < ms; passedMs += 5) {
        clock.advance(5)
        await clock.settle(1)
      }
    }
    const parts = { heard: (message: string) => { heard.push(message) }, report: (one: BusNews) => { news.push(one) } }
    return { bell, clock, dialledAtMs, news, heard, made, pass, fail: () => { isAnswering = false }, parts }
  }

  t.test('waits 50 ms to 2 s between connections, at random, longer with each that fails', async t => {
    const cases = [
      [0, [50, 50, 50, 50, 50, 50, 50]],
      [0.5, [75, 125, 225, 425, 825, 1025, 1025]],
      [1, [100, 200, 400, 800, 1600, 2000, 2000]]
    ] as const
    for (const [random, expected] of cases) {
      const { bell, dialledAtMs, news, parts, pass } = make(async () => { throw new Error('refused') }, random)
      await bell.start(parts)
      await pass(12_000)
      t.same(pauses(dialledAtMs).slice(0, 7), expected)
      t.match(news, [{ level: 'warn', message: /^session bell \(test\): not connected\. As the test says\. Until/ }])
      t.equal(news.length, 1)
      await bell.close()
      await pass(5000)
      const count = dialledAtMs.length
      await pass(5000)
      t.equal(dialledAtMs.length, count, 'and none after it is closed')
    }
  })

  t.test('whose connections die as soon as they are made is not dialled in a circle', async t => {
    const { bell, dialledAtMs, parts, pass, fail } = make(async () => null)
    fail()
    await bell.start(parts)
    await pass(60_000)
    t.ok(dialledAtMs.length <= 7, `${dialledAtMs.length} in a minute`)
    t.same(pauses(dialledAtMs).slice(0, 3), [10_075, 10_125, 10_225], 'each answers no check')
    await Promise.all([bell.close(), pass(600)])
  })

  t.test('minds nothing that comes from a connection which it has given up, or after it is closed', async t => {
    const { bell, parts, pass, heard, made, news } = make(async () => null)
    await bell.start(parts)
    made[0]!.heard('1')
    made[0]!.down(new Error('lost'))
    made[0]!.heard('2')
    await pass(200)
    t.equal(made.length, 2)
    made[0]!.heard('3')
    made[0]!.down(new Error('lost again'))
    made[1]!.heard('4')
    t.ok(bell.status().connected)
    t.same(news.map(({ level }) => level), ['info', 'warn', 'info'])
    const closed = Promise.all([bell.close(), pass(600)])
    made[1]!.heard('5')
    made[1]!.down(new Error('lost'))
    await closed
    await pass(3000)
    t.same([heard, made.length, news.length, bell.status()], [['1', '4'], 2, 3, { connected: false, reason: 'Closed' }])
  })

  t.test('waits shortly again after a connection that answered', async t => {
    let opens = 0
    const { bell, parts, pass, made, dialledAtMs } = make(async () => {
      if (++opens < 5) throw new Error('refused')
      return null
    })
    await bell.start(parts)
    await pass(11_000)
    t.ok(bell.status().connected)
    made.at(-1)!.down(new Error('lost'))
    await pass(200)
    t.same(pauses(dialledAtMs).slice(0, 4), [75, 125, 225, 425])
    t.equal(dialledAtMs.length, 6, 'within 200 ms')
    await Promise.all([bell.close(), pass(600)])
  })

  t.test('is not told by a late answer of one connection that the next one lives', async t => {
    let answer = (): void => {}
    let opens = 0
    const open = (): Promise<null> => ++opens === 2 ? new Promise(() => {}) : Promise.resolve(null)
    const { bell, parts, pass, made } = make(open, 0, () => new Promise(resolve => { answer = resolve }))
    await bell.start(parts)
    await pass(12_100)
    t.equal(made.length, 2, 'the first was silent, the second connects')
    answer()
    await pass(2000)
    t.equal(made.length, 3)
    await Promise.all([bell.close(), pass(600)])
  })

  t.test('takes 64 rings that wait, refuses more, and rejects all when the connection is cut', async t => {
    const { bell, parts, pass, fail } = make(async () => null)
    await bell.start(parts)
    const codeOf = ({ code }: { code: string }): string => code
    const rings = Array.from({ length: 64 }, () => bell.ring('?').then(() => 'rung', codeOf))
    await t.rejects(bell.ring('?'), { code: 'ORI_CACHE_BELL_UNAVAILABLE' })
    fail()
    await pass(12_000)
    t.same(new Set(await Promise.all(rings)), new Set(['ORI_CACHE_BELL_UNAVAILABLE']))
    const next = bell.ring('?').catch(() => 'cut')
    await Promise.all([bell.close(), pass(600)])
    t.equal(await next, 'cut', 'closes within half a second, though the server does not answer that it closes')
  })
})

t.test('the relay', async t => {
  /** A relay over ports that do as the test says; by default it leads, and there is nothing to ring. */
  const make = (parts: Partial<RelayDeps> = {}) => {
    const clock = new ManualClock()
    const rung: string[] = []
    const asked: Array<string | null> = []
    const led: number[] = []
    let position = 0
    const changes: UserChange[] = []
    const relay = new Relay({
      lead: async () => { led.push(clock.monotonic()); return true },
      tail: async since => {
        asked.push(since)
        return { position: String(++position), changes: changes.splice(0), isCut: false }
      },
      ring: async message => { rung.push(message) },
      relayIntervalMs: 20,
      clock,
      random: () => 0,
      ...parts
    })
    t.teardown(() => Promise.all([relay.close(), pass(500)]))
    const pass = async (ms: number): Promise<void> => {
      await clock.settle(1)
      for (let passedMs = 0; passedMs < ms; passedMs += 5) {
        clock.advance(5)
        await clock.settle(1)
      }
    }
    return { relay, clock, rung, asked, led, changes, pass }
  }

  t.test('that leads asks each 20 ms from where it stands, rings what there is, and renews each second', async t => {
    const { relay, asked, led, rung, changes, pass } = make()
    relay.start()
    relay.start()
    await pass(2000)
    t.ok(relay.leads)
    t.ok(asked.length >= 95 && asked.length <= 101, `${asked.length}`)
    t.same(asked.slice(0, 3), [null, '1', '2'])
    t.same(pauses(led), [1000, 1000])
    t.same(rung, [])
    changes.push(user(1), user(2))
    await pass(40)
    t.same(rung, messagesOf([user(1), user(2)]))
    t.equal(relay.asks, asked.length)
    t.equal(relay.rings, 1)
  })

  t.test('that does not lead tries each second or rarer, and asks for nothing', async t => {
    for (const [random, expectedMs] of [[0, 1000], [1, 1500]] as const) {
      const tries: number[] = []
      const lead = async (): Promise<boolean> => {
        tries.push(clock.monotonic())
        return false
      }
      const { relay, asked, pass, clock } = make({ lead, random: () => random })
      relay.start()
      await pass(6100)
      t.same([...new Set(pauses(tries))], [expectedMs])
      t.same([asked, relay.leads], [[], false])
    }
  })

  t.test('whose renewals fail stops when the lease has ended, and begins anew later', async t => {
    let isAway = false
    const { relay, asked, pass } = make({ lead: async () => { if (isAway) throw new Error('away'); return true } })
    relay.start()
    await pass(100)
    isAway = true
    await pass(relayLeaseMs)
    t.notOk(relay.leads)
    const before = asked.length
    await pass(3000)
    t.equal(asked.length, before)
    isAway = false
    await pass(1100)
    t.ok(relay.leads)
    t.equal(asked[before], null)
  })

  t.test('whose renewal fails once goes on where it was', async t => {
    let failures = 0
    const { relay, asked, pass, clock } = make({
      lead: async () => {
        if (clock.monotonic() > 1_000_500 && failures++ === 0) throw new Error('once')
        return true
      }
    })
    relay.start()
    await pass(5000)
    t.equal(failures > 1, true)
    t.equal(asked.filter(since => since === null).length, 1)
  })

  t.test('tells by a single message what was more than an answer holds', async t => {
    let n = 0
    const tail = async (): Promise<Tail> => ({ position: String(n), changes: [user(1)], isCut: n++ === 1 })
    const { relay, rung, pass } = make({ tail })
    relay.start()
    await pass(60)
    t.same(rung.slice(0, 3), [...messagesOf([user(1)]), '?', ...messagesOf([user(1)])])
  })

  t.test('makes all poll as soon as it can after a ring that failed, also when it leads no more', async t => {
    let isDeaf = true
    let holds = true
    const { relay, rung, changes, pass, asked } = make({
      lead: async () => holds,
      ring: async message => { if (isDeaf) throw new Error('deaf'); rung.push(message) }
    })
    relay.start()
    await pass(100)
    changes.push(user(1))
    await pass(1000)
    t.same(rung, [])
    holds = false
    await pass(2000)
    t.notOk(relay.leads)
    const before = asked.length
    isDeaf = false
    await pass(1100)
    t.same([rung, asked.length], [['?'], before])
    await pass(3000)
    t.same(rung, ['?'], 'once')
  })

  t.test('asks rarer after failures, at least each second, and at its interval again after a success', async t => {
    let isAway = true
    const askedAtMs: number[] = []
    const { relay, pass, clock } = make({
      tail: async () => {
        askedAtMs.push(clock.monotonic())
        if (isAway) throw new Error('away')
        return { position: '', changes: [], isCut: false }
      }
    })
    relay.start()
    await pass(5000)
    t.same(pauses(askedAtMs).slice(0, 7), [40, 80, 160, 320, 640, 1000, 1000])
    isAway = false
    await pass(1100)
    const before = askedAtMs.length
    await pass(1000)
    t.ok(askedAtMs.length - before >= 49)
  })

  t.test('leaves the lease to others while its bell cannot ring', async t => {
    let canRing = false
    const { relay, led, pass } = make({ canRing: () => canRing })
    relay.start()
    await pass(5000)
    t.same([led, relay.leads], [[], false])
    canRing = true
    await pass(1100)
    t.ok(relay.leads)
    canRing = false
    await pass(relayLeaseMs)
    t.notOk(relay.leads)
  })

  t.test('leads no more when it is closed, after what is on its way, and asks no more', async t => {
    let answer: (tail: Tail) => void = () => {}
    const { relay, pass, rung } = make({
      tail: () => new Promise(resolve => { answer = resolve })
    })
    relay.start()
    await pass(20)
    const closed = relay.close()
    t.ok(relay.leads)
    answer({ position: '1', changes: [user(1)], isCut: false })
    await closed
    t.same([rung, relay.leads], [messagesOf([user(1)]), false])
    await relay.close()
    relay.start()
    await pass(5000)
    t.equal(relay.asks, 1)
  })

  t.test('closes within half a second when nothing answers, and at once where nothing is on its way', async t => {
    const hung = make({ lead: () => new Promise(() => {}) })
    hung.relay.start()
    const closed = hung.relay.close()
    await hung.pass(500)
    await closed
    const follower = make({ lead: async () => false })
    follower.relay.start()
    await follower.pass(10)
    await follower.relay.close()
    await make().relay.close()
  })

  t.test('whose question hangs renews no lease, so that another instance takes over', async t => {
    const { relay, led, pass } = make({ tail: () => new Promise(() => {}) })
    relay.start()
    await pass(relayLeaseMs)
    t.same([led.length, relay.leads], [1, false])
  })

  t.test('never asks twice at once, and rings each change once or makes all poll, whatever fails', async t => {
    const fate = fc.record({
      delayMs: fc.constantFrom(0, 0, 0, 0, 0, 5, 30, 700, 4000),
      outcome: fc.constantFrom('done', 'done', 'done', 'failed', 'done, but failed')
    })
    const isCut = fc.integer({ max: 9, min: 0 }).map(n => n === 0)
    const commits = fc.integer({ min: 0, max: 3 })
    const step = fc.record({ lead: fate, isHeld: fc.boolean(), tail: fate, ring: fate, isCut, commits })
    let asks = 0
    let told = 0
    let polled = 0
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async steps => {
      const clock = new ManualClock()
      let turn = 0
      let isHealed = false
      let underWay = 0
      let mostUnderWay = 0
      let unleased = 0
      let heldUntilMs = -Infinity
      /** The changes that were committed; the numbers of those that an answer brought; what was rung, in order. */
      let committed = 0
      const delivered = new Map<number, number>()
      const rung: string[] = []
      const plan = (): (typeof steps)[number] => steps[turn++ % steps.length]!
      const happens = async <T>({ delayMs, outcome }: (typeof steps)[number]['tail'], does: () => T): Promise<T> => {
        if (isHealed) return does()
        if (delayMs > 0) await new Promise<void>(resolve => { clock.setTimer(resolve, delayMs) })
        if (outcome === 'failed') throw new Error('failed')
        const done = does()
        if (outcome !== 'done') throw new Error('done, but failed')
        return done
      }
      const relay = new Relay({
        lead: async () => {
          const { lead, isHeld } = plan()
          const sentAtMs = clock.monotonic()
          const holds = await happens(lead, () => isHealed || isHeld)
          if (holds) heldUntilMs = sentAtMs + relayLeaseMs
          return holds
        },
        tail: async since => {
          const { tail, isCut, commits } = plan()
          mostUnderWay = Math.max(mostUnderWay, ++underWay)
          if (clock.monotonic() >= heldUntilMs) unleased++
          asks++
          try {
            const { from, to } = await happens(tail, () => {
              const from = since === null ? committed : Number(since)
              committed += isHealed ? 0 : commits
              return { from, to: committed }
            })
            const all = Array.from({ length: to - from }, (_, index) => from + index)
            for (const n of all) if (!delivered.has(n)) delivered.set(n, rung.length)
            return { position: String(to), changes: isCut && !isHealed ? [] : all.map(user), isCut: isCut && !isHealed }
          } finally {
            underWay--
          }
        },
        ring: async message => {
          const { ring } = plan()
          await happens(ring, () => { rung.push(message) })
        },
        relayIntervalMs: 20,
        clock,
        random: () => 0.5
      })
      relay.start()
      for (let passedMs = 0; passedMs < 6000; passedMs += 20) {
        clock.advance(20)
        await clock.settle(1)
      }
      isHealed = true
      for (let passedMs = 0; passedMs < 12_000; passedMs += 50) {
        clock.advance(50)
        await clock.settle(1)
      }
      await relay.close()
      if (unleased > 0) throw new Error(`asked ${unleased} times without the lease`)
      if (mostUnderWay > 1) throw new Error(`${mostUnderWay} at once`)
      const times = new Map<number, number>()
      for (const message of rung) {
        const ring = ringOf(message)!
        if (ring === 'poll') polled++
        else {
          const revisions = ring.changes.map(change => change.kind === 'user' ? change.revision! : NaN)
          for (const n of revisions) times.set(n, (times.get(n) ?? 0) + 1)
        }
      }
      for (const [n, after] of delivered) {
        if (times.get(n) === undefined && !rung.slice(after).includes('?')) throw new Error(`${n} was not told`)
        if ((times.get(n) ?? 0) > 1) throw new Error(`${n} was rung ${times.get(n)} times`)
      }
      told += times.size
    }), { numRuns: 60 })
    t.ok(asks > 1000 && told > 0 && polled > 0, `${asks} questions, ${told} changes, ${polled} times all`)
  })
})
