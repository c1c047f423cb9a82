import assert from 'node:assert/strict'
import { sessionKey, sessionKeyHash, type UserChange } from '@orientor/session-contract/core'
import type { InvalidationBus } from './invalidation-bus.js'

/** The means by which the conformance suite makes and breaks buses of one kind. A fresh one for each case. */
export interface BusHarness {
  /** Makes a bus that reaches the others of this harness. It is closed by the suite. */
  create (): Promise<InvalidationBus>
  /** Starts a bus. */
  start (bus: InvalidationBus): Promise<void>
  /** Makes every line go silent: connections stay, nothing arrives. */
  silence (): Promise<void>
  /** Ends every connection, and lets none be made. */
  refuse (): Promise<void>
  /** Undoes both. */
  heal (): Promise<void>
  /** Waits until the condition holds; rejects when it does not for long. */
  until (what: string, condition: () => boolean): Promise<void>
  /** Lets at least this much time pass on the bus's clock. */
  pass (ms: number): Promise<void>
  /** The monotonic clock of the buses. */
  nowMs (): number
}

/** One case of the suite. */
export interface ConformanceCase {
  readonly title: string
  readonly run: (harness: BusHarness) => Promise<void>
}

const users = Array.from({ length: 20 }, (_, index): UserChange => ({
  kind: 'user',
  keyHash: sessionKeyHash(sessionKey('https://issuer.test', `user-${index}`)),
  revision: index === 7 ? null : index
}))

/** The cases that every bus has to pass, for any test runner: run each with a harness of its own. */
export const busConformance: readonly ConformanceCase[] = Object.freeze([
  given('is not trusted before it was started, and is afterwards', async harness => {
    const bus = await harness.create()
    assert.equal(bus.trust.provenAtMs, -Infinity)
    assert.equal(bus.status().trusted, false)
    const beforeMs = harness.nowMs()
    await trusted(harness, bus)
    assert.ok(bus.trust.provenAtMs >= beforeMs && bus.trust.provenAtMs <= harness.nowMs())
    assert.ok(bus.leaseMs < bus.trust.maxStalenessMs)
  }),
  given('brings what was published to every instance, its own included, the last of one user last', async harness => {
    const [first, second] = [await harness.create(), await harness.create()]
    const seen = [first, second].map(bus => heard(bus))
    for (const bus of [first, second]) await trusted(harness, bus)
    for (const change of users) await first.publish(change)
    await first.publish({ kind: 'all' })
    await harness.until('all is heard', () => seen.every(changes => changes.length >= users.length + 1))
    const set = (changes: readonly unknown[]): Set<string> => new Set(changes.map(change => JSON.stringify(change)))
    for (const changes of seen) assert.deepEqual(set(changes), set([...users, { kind: 'all' }]))
    for (const changes of seen) assert.equal(changes.length, users.length + 1)
    for (let revision = 30; revision < 35; revision++) await second.publish({ ...users[0]!, revision } as UserChange)
    const last = (changes: readonly UserChange[]): UserChange | undefined => changes.at(-1)
    await harness.until('the last is heard', () => seen.every(changes => {
      const change = last(changes)
      return change?.kind === 'user' && change.revision === 34
    }))
  }),
  given('applies what was published before it proves anything later', async harness => {
    const [writer, reader] = [await harness.create(), await harness.create()]
    let early = 0
    let publishedAtMs = Infinity
    let applied = false
    reader.subscribe(() => { applied = true })
    for (const bus of [writer, reader]) await trusted(harness, bus)
    for (let round = 0; round < 10; round++) {
      applied = false
      await writer.publish(users[0]!)
      publishedAtMs = harness.nowMs()
      await harness.until('a later proof', () => {
        if (reader.trust.provenAtMs > publishedAtMs && !applied) early++
        return reader.trust.provenAtMs > publishedAtMs
      })
    }
    assert.equal(early, 0)
  }),
  given('stops telling a listener that has unsubscribed', async harness => {
    const bus = await harness.create()
    const kept = heard(bus)
    const left: UserChange[] = []
    const leave = bus.subscribe(change => { left.push(change) })
    await trusted(harness, bus)
    leave()
    await bus.publish(users[0]!)
    await harness.until('it is heard', () => kept.length === 1)
    assert.deepEqual(left, [])
  }),
  given('proves nothing while nothing is delivered, and is not trusted for longer than its lease', async harness => {
    const bus = await harness.create()
    await trusted(harness, bus)
    await harness.silence()
    const silentAtMs = harness.nowMs()
    await harness.until('trust ends', () => !bus.status().trusted)
    assert.ok(bus.trust.provenAtMs <= silentAtMs)
    assert.ok(bus.status().reason.length > 0)
    await harness.pass(2 * bus.leaseMs)
    assert.ok(bus.trust.provenAtMs <= silentAtMs)
  }),
  given('goes on in its epoch after polls that failed, or remembers what the last one had proven', async harness => {
    for (const trouble of ['refuse', 'silence'] as const) {
      const bus = await harness.create()
      await trusted(harness, bus)
      const { epoch } = bus.trust
      await harness[trouble]()
      await harness.until('trust ends', () => !bus.status().trusted)
      const provenAtMs = bus.trust.lastProofOf(epoch)?.monotonicMs
      assert.equal(typeof provenAtMs, 'number')
      await harness.heal()
      await harness.until('trust comes back', () => bus.status().trusted)
      assert.ok(bus.trust.epoch >= epoch)
      if (bus.trust.epoch > epoch) assert.equal(bus.trust.lastProofOf(epoch)?.monotonicMs, provenAtMs)
      assert.ok(bus.trust.provenAtMs > provenAtMs!)
      assert.equal(bus.trust.lastProofOf(bus.trust.epoch)?.monotonicMs, bus.trust.provenAtMs)
    }
  }),
  given('hears after polls that failed what was published before, or begins a new epoch', async harness => {
    const bus = await harness.create()
    const changes = heard(bus)
    await trusted(harness, bus)
    const { epoch } = bus.trust
    // What was sent when all goes silent may have been committed, and may not.
    const published = bus.publish(users[0]!).then(() => true, () => false)
    await harness.silence()
    await harness.until('trust ends', () => !bus.status().trusted)
    await harness.heal()
    await harness.until('trust comes back', () => bus.status().trusted)
    if (await published) assert.ok(changes.length === 1 || bus.trust.epoch > epoch)
    await bus.publish(users[1]!)
    await harness.until('the next is heard', () => {
      return changes.some(change => change.kind === 'user' && change.revision === 1)
    })
  }),
  given('tells of each beginning and end of trust, once', async harness => {
    const bus = await harness.create()
    const told: boolean[] = []
    bus.onTrust(({ trusted }) => { told.push(trusted) })
    await trusted(harness, bus)
    await harness.refuse()
    await harness.until('trust ends', () => !bus.status().trusted)
    await harness.heal()
    await harness.until('trust comes back', () => bus.status().trusted)
    assert.deepEqual(told, [true, false, true])
  }),
  given('refuses to publish what it cannot send', async harness => {
    const bus = await harness.create()
    await assert.rejects(bus.publish(users[0]!), { code: 'ORI_CACHE_BUS_UNAVAILABLE' })
    await trusted(harness, bus)
    await harness.refuse()
    await harness.until('trust ends', () => !bus.status().trusted)
    await assert.rejects(bus.publish(users[0]!), { code: 'ORI_CACHE_BUS_UNAVAILABLE' })
  }),
  given('starts without trust while no poll is answered, and finds it later', async harness => {
    await harness.refuse()
    const bus = await harness.create()
    await harness.start(bus)
    assert.equal(bus.status().trusted, false)
    await harness.heal()
    await harness.until('trust comes', () => bus.status().trusted)
  }),
  given('counts the instances that poll, or says that it cannot', async harness => {
    const [first, second] = [await harness.create(), await harness.create()]
    assert.equal(first.status().instances, null)
    for (const bus of [first, second]) await trusted(harness, bus)
    await harness.until('both are counted', () => first.status().instances === 2)
    await second.close()
    await harness.until('one is left', () => first.status().instances === 1)
  }),
  given('closes while its line is silent, proves nothing afterwards, and may be closed again', async harness => {
    const bus = await harness.create()
    await trusted(harness, bus)
    await harness.silence()
    await bus.close()
    const { provenAtMs } = bus.trust
    await harness.heal()
    await harness.pass(bus.leaseMs)
    assert.equal(bus.trust.provenAtMs, provenAtMs)
    assert.equal(bus.status().trusted, false)
    await bus.close()
  })
])

function given (title: string, run: ConformanceCase['run']): ConformanceCase {
  return Object.freeze({
    title,
    run: async (harness: BusHarness) => {
      const made: InvalidationBus[] = []
      try {
        await run({
          ...harness,
          create: async () => {
            const bus = await harness.create()
            made.push(bus)
            return bus
          }
        })
      } finally {
        await harness.heal()
        for (const bus of made) await bus.close()
      }
    }
  })
}

function heard (bus: InvalidationBus): UserChange[] {
  const changes: UserChange[] = []
  bus.subscribe(change => { changes.push(change) })
  return changes
}

async function trusted (harness: BusHarness, bus: InvalidationBus): Promise<void> {
  await harness.start(bus)
  await harness.until('trust comes', () => bus.status().trusted)
}
