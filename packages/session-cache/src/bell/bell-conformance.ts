import assert from 'node:assert/strict'
import { sessionKey, sessionKeyHash, type UserChange } from '@orientor/session-contract/core'
import type { BusNews } from '../coherence/invalidation-bus.js'
import type { Bell } from './bell.js'
import { maxRingBytes, messagesOf, pollRing, ringOf } from './ring-message.js'

/** The means by which the conformance suite makes and breaks bells of one kind. A fresh one for each case. */
export interface BellHarness {
  /** Makes a bell on the channel that all bells of this harness share. It is closed by the suite. */
  create (): Promise<Bell>
  /** Ends every connection; new ones can be made. */
  cut (): Promise<void>
  /** Makes every connection go silent: it stays, nothing arrives. */
  silence (): Promise<void>
  /** Ends every connection, and lets none be made. */
  refuse (): Promise<void>
  /** Undoes silence() and refuse(). */
  heal (): Promise<void>
  /** Puts any text on the channel, past the bells. */
  say (text: string): Promise<void>
  /** Waits until the condition holds; rejects when it does not for long. */
  until (what: string, condition: () => boolean): Promise<void>
  /** Lets at least this much time pass on the bell's clock. */
  pass (ms: number): Promise<void>
  /** The monotonic clock of the bells. */
  nowMs (): number
}

/** One case: its title, and what it does. */
export interface BellCase {
  readonly title: string
  readonly run: (harness: BellHarness) => Promise<void>
}

/** A bell that was started, and all it said. */
interface Ear { readonly bell: Bell, readonly messages: string[], readonly news: BusNews[] }

const users = Array.from({ length: 300 }, (_, index): UserChange => ({
  kind: 'user',
  keyHash: sessionKeyHash(sessionKey('https://issuer.test', `user-${index}`)),
  revision: index === 7 ? null : index
}))
const messages = [...messagesOf(users), pollRing, ...messagesOf([{ kind: 'all' }])]
const garbage = [
  '', ',', 'hello', '{"user":1}', 'ä€😀\n', '\\', "'; DROP TABLE users; --", 'x'.repeat(maxRingBytes + 50)
]
const unavailable = { code: 'ORI_CACHE_BELL_UNAVAILABLE' }
/** Far above what any bell waits for before it gives a connection up, in milliseconds. */
const closeLimitMs = 5000

/** The cases that every bell has to pass, for any test runner: run each with a harness of its own. */
export const bellConformance: readonly BellCase[] = Object.freeze([
  given('brings what one bell rings to every bell, its own included, in order and as it was', async harness => {
    const ears = [await listening(harness), await listening(harness), await listening(harness)]
    await connected(harness, ears)
    for (const message of messages) await ears[0]!.bell.ring(message)
    await harness.until('all is heard', () => ears.every(ear => ear.messages.length >= messages.length))
    for (const ear of ears) assert.deepEqual(ear.messages, messages)
    assert.ok(messages.length > 3 && messages.some(message => message.length > maxRingBytes - 100))
  }),
  given('is not connected before it was started, and says so once when it is', async harness => {
    const bell = await harness.create()
    assert.equal(bell.status().connected, false)
    await assert.rejects(bell.ring(pollRing), unavailable)
    const ear = await listening(harness, bell)
    await connected(harness, [ear])
    assert.deepEqual(ear.news.map(({ level }) => level), ['info'])
    assert.ok(ear.bell.name.length > 0 && ear.bell.status().reason.length > 0)
  }),
  given('connects again after a cut, tells of both, and refuses to ring in between', async harness => {
    const ears = [await listening(harness), await listening(harness)]
    await connected(harness, ears)
    for (let round = 0; round < 3; round++) {
      for (const ear of ears) ear.news.length = 0
      await harness.refuse()
      await harness.until('the end is noticed', () => ears.every(({ bell }) => !bell.status().connected))
      await assert.rejects(ears[0]!.bell.ring(pollRing), unavailable)
      await harness.heal()
      await connected(harness, ears)
      await heardByAll(harness, ears)
      for (const { news } of ears) assert.deepEqual(news.map(({ level }) => level), ['warn', 'info'])
    }
  }),
  given('connects again when connections are cut that can be made anew at once', async harness => {
    const ears = [await listening(harness), await listening(harness)]
    await connected(harness, ears)
    await harness.cut()
    await harness.until('it is noticed', () => ears.every(({ news }) => news.some(({ level }) => level === 'warn')))
    await connected(harness, ears)
    await heardByAll(harness, ears)
  }),
  given('notices that a connection is silent, and makes another', async harness => {
    const ear = await listening(harness)
    await connected(harness, [ear])
    await harness.silence()
    await harness.until('it is noticed', () => !ear.bell.status().connected)
    assert.ok(ear.bell.status().reason.length > 0)
    await harness.heal()
    await connected(harness, [ear])
    await heardByAll(harness, [ear])
  }),
  given('starts while nothing answers, says so once, and connects later', async harness => {
    await harness.refuse()
    const ear = await listening(harness)
    assert.equal(ear.bell.status().connected, false)
    await harness.pass(1000)
    assert.deepEqual(ear.news.map(({ level }) => level), ['warn'])
    await harness.heal()
    await connected(harness, [ear])
    await heardByAll(harness, [ear])
  }),
  given('goes on after what no bell has rung, whatever it is', async harness => {
    const ears = [await listening(harness)]
    await connected(harness, ears)
    for (const text of garbage) await harness.say(text).catch(() => {})
    await heardByAll(harness, ears)
    for (const message of ears[0]!.messages.filter(message => message !== pollRing)) assert.equal(ringOf(message), null)
    assert.ok(ears[0]!.messages.every(({ length }) => length <= maxRingBytes))
    assert.equal(ears[0]!.bell.status().connected, true)
  }),
  given('refuses to ring what is too long, and goes on', async harness => {
    const ears = [await listening(harness)]
    await connected(harness, ears)
    await assert.rejects(ears[0]!.bell.ring('x'.repeat(maxRingBytes + 1)), RangeError)
    await heardByAll(harness, ears)
    assert.deepEqual(ears[0]!.messages, [pollRing])
  }),
  given('goes on when what hears a ring fails, and says so once', async harness => {
    const bell = await harness.create()
    const news: BusNews[] = []
    let heard = 0
    await bell.start({
      heard: () => { if (++heard < 3) throw new Error('of the test') },
      report: one => { news.push(one) }
    })
    await harness.until('it is connected', () => bell.status().connected)
    for (let n = 1; n <= 3; n++) {
      await bell.ring(pollRing)
      await harness.until('it is heard', () => heard === n)
    }
    assert.deepEqual(news.map(({ level }) => level), ['info', 'warn'])
  }),
  given('closes while its connection is silent, says and hears nothing more, and closes again', async harness => {
    const [ear, other] = [await listening(harness), await listening(harness)]
    await connected(harness, [ear, other])
    await harness.silence()
    let isClosed = false
    ear.bell.close().then(() => { isClosed = true }, () => {})
    const beforeMs = harness.nowMs()
    await harness.until('it is closed', () => isClosed)
    assert.ok(harness.nowMs() - beforeMs < closeLimitMs)
    const said = ear.news.length
    await harness.until('the other has noticed', () => !other.bell.status().connected)
    await harness.heal()
    await connected(harness, [other])
    await heardByAll(harness, [other])
    assert.deepEqual([ear.messages, ear.news.length, ear.bell.status().connected], [[], said, false])
    await assert.rejects(ear.bell.ring(pollRing), unavailable)
    await ear.bell.close()
  }),
  given('closes before it was started, and while it connects', async harness => {
    const bell = await harness.create()
    await bell.close()
    await bell.start({ heard: () => {}, report: () => {} })
    assert.equal(bell.status().connected, false)
    await harness.silence()
    const connecting = await harness.create()
    const started = connecting.start({ heard: () => {}, report: () => {} })
    await connecting.close()
    await started
    assert.equal(connecting.status().connected, false)
  })
])

function given (title: string, run: BellCase['run']): BellCase {
  return Object.freeze({
    title,
    run: async (harness: BellHarness) => {
      const made: Bell[] = []
      try {
        await run({
          ...harness,
          create: async () => {
            const bell = await harness.create()
            made.push(bell)
            return bell
          }
        })
      } finally {
        await harness.heal()
        for (const bell of made) await bell.close()
      }
    }
  })
}

async function listening (harness: BellHarness, given?: Bell): Promise<Ear> {
  const bell = given ?? await harness.create()
  const ear: Ear = { bell, messages: [], news: [] }
  await bell.start({ heard: message => { ear.messages.push(message) }, report: one => { ear.news.push(one) } })
  return ear
}

async function connected (harness: BellHarness, ears: readonly Ear[]): Promise<void> {
  await harness.until('the bells are connected', () => ears.every(({ bell }) => bell.status().connected))
}

async function heardByAll (harness: BellHarness, ears: readonly Ear[]): Promise<void> {
  const count = ({ messages }: Ear): number => messages.filter(message => message === pollRing).length
  const before = ears.map(count)
  await ears[0]!.bell.ring(pollRing)
  await harness.until('the ring is heard', () => ears.every((ear, index) => count(ear) > before[index]!))
}
