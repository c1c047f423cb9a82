import fc from 'fast-check'
import t from 'tap'
import { SessionEntry } from '../src/session-entry.js'
import { SessionStore } from '../src/session-store.js'
import { hashOf, keyOf, recordOf } from './fixtures/setup.js'

const hashes = new Map<string, ReturnType<typeof hashOf>>()

function entryOf (subject: string): SessionEntry {
  const keyHash = hashes.get(subject) ?? hashOf(subject)
  hashes.set(subject, keyHash)
  return new SessionEntry({
    key: keyOf(subject), keyHash, record: recordOf(subject), loadedAtMs: 0, loadedWallMs: 0, epoch: 0, refreshAfterMs: 80, expireAfterMs: 100, staleIfErrorMs: 100, hintMs: 0
  })
}

function subjectsOf (store: SessionStore): string[] {
  return store.newest(Infinity).map(entry => entry.key.split(' ')[1]!)
}

/** SIEVE as a list: newest first, with the hand as a subject. */
class NaiveSieve {
  queue: Array<{ subject: string, visited: boolean }> = []
  hand: string | null = null
  readonly max: number

  constructor (max: number) {
    this.max = max
  }

  put (subject: string): void {
    if (this.queue.some(node => node.subject === subject)) return
    if (this.queue.length >= this.max) this.evict()
    this.queue.unshift({ subject, visited: false })
  }

  hit (subject: string): void {
    const node = this.queue.find(node => node.subject === subject)
    if (node !== undefined) node.visited = true
  }

  remove (subject: string): void {
    const at = this.queue.findIndex(node => node.subject === subject)
    if (at === -1) return
    if (this.hand === subject) this.hand = this.queue[at - 1]?.subject ?? null
    this.queue.splice(at, 1)
  }

  evict (): void {
    let at = this.hand === null ? this.queue.length - 1 : this.queue.findIndex(node => node.subject === this.hand)
    while (this.queue[at]!.visited) {
      this.queue[at]!.visited = false
      at = at === 0 ? this.queue.length - 1 : at - 1
    }
    this.hand = this.queue[at]!.subject
    this.remove(this.hand)
  }

  clear (): void {
    this.queue = []
    this.hand = null
  }
}

interface Real { store: SessionStore }
type Step = fc.Command<NaiveSieve, Real>

function step (text: string, run: (model: NaiveSieve, real: Real) => void): Step {
  return {
    check: () => true,
    toString: () => text,
    run (model, real) {
      run(model, real)
      const { store } = real
      const { stored, evicted, expired, invalidated } = store.counts
      if (JSON.stringify(subjectsOf(store)) !== JSON.stringify(model.queue.map(node => node.subject))) throw new Error('the queues differ')
      if (store.size !== model.queue.length || store.size > store.maxEntries) throw new Error('the size is wrong')
      if (store.size !== stored - evicted - expired - invalidated) throw new Error('the counts do not add up')
      if ([...store.entries()].length !== store.size) throw new Error('index and queue differ')
      const oldestFirst: string[] = []
      for (let entry = store.newest(Infinity).at(-1) ?? null; entry !== null; entry = entry.newer) oldestFirst.unshift(entry.key.split(' ')[1]!)
      if (oldestFirst.join() !== subjectsOf(store).join()) throw new Error('the links do not agree')
    }
  }
}

t.test('the store does what a naive SIEVE of the same bound does, over random commands', async t => {
  const subject = fc.nat({ max: 11 }).map(String)
  const commands = fc.commands([
    subject.map(name => step(`put ${name}`, (model, { store }) => { store.put(entryOf(name)); model.put(name) })),
    subject.map(name => step(`hit ${name}`, (model, { store }) => {
      const entry = store.get(hashOf(name))
      if (entry !== undefined) entry.visited = true
      model.hit(name)
    })),
    subject.map(name => step(`remove ${name}`, (model, { store }) => {
      const entry = store.get(hashOf(name))
      if (entry !== undefined) store.remove(entry, 'invalidated')
      model.remove(name)
    })),
    fc.constant(step('clear', (model, { store }) => { store.clear(); model.clear() }))
  ], { maxCommands: 60 })
  fc.assert(fc.property(fc.integer({ min: 1, max: 8 }), commands, (max, steps) => {
    fc.modelRun(() => ({ model: new NaiveSieve(max), real: { store: new SessionStore(max) } }), steps)
  }), { numRuns: 300 })
  t.pass()
})

t.test('the bound holds over all shards together, and small stores have one shard', async t => {
  t.equal(new SessionStore(1).shards, 1)
  t.equal(new SessionStore(128).shards, 1)
  t.equal(new SessionStore(129).shards, 2)
  t.equal(new SessionStore(10_000).shards, 128)
  t.equal(new SessionStore(1_000_000).shards, 4096)
  const store = new SessionStore(2000)
  for (let user = 0; user < 5000; user++) {
    store.put(entryOf(`user-${user}`))
    if (store.size > 2000) t.fail('above the bound')
  }
  t.equal(store.size, 2000)
  t.equal(store.counts.evicted, 3000)
})

t.test('a scan of users who are seen once does not drive out those who are seen again', async t => {
  const store = new SessionStore(100)
  const regulars = Array.from({ length: 50 }, (_, index) => entryOf(`regular-${index}`))
  for (const entry of regulars) {
    store.put(entry)
    entry.visited = true
  }
  for (let user = 0; user < 400; user++) {
    store.put(entryOf(`passer-by-${user}`))
    for (const entry of regulars) if (store.holds(entry)) entry.visited = true
  }
  t.ok(regulars.every(entry => store.holds(entry)))
})

/** Least recently used goes first: a Map keeps the order of insertion. */
class Lru {
  readonly #held = new Map<number, true>()
  readonly #max: number

  constructor (max: number) {
    this.#max = max
  }

  ask (user: number): boolean {
    const hit = this.#held.delete(user)
    if (!hit && this.#held.size >= this.#max) this.#held.delete(this.#held.keys().next().value!)
    this.#held.set(user, true)
    return hit
  }
}

t.test('more requests find their user than with a true LRU of the same size: on Zipf 0.8, on Zipf 1.0, and while a scan goes by', async t => {
  const max = 100
  const users = 1000
  const requests = 10_000
  const template = { key: keyOf('anybody'), record: recordOf('anybody'), loadedAtMs: 0, loadedWallMs: 0, refreshAfterMs: 80, expireAfterMs: 100, staleIfErrorMs: 900_000, epoch: 0, hintMs: 0 }
  const loads = {
    'Zipf 0.8': zipf(users, 0.8, 1),
    'Zipf 1.0': zipf(users, 1, 2),
    // Every second request is of a user who comes by once.
    scan: (regular => { let turn = 0; return () => ++turn % 2 === 0 ? regular() : users + turn })(zipf(users, 1, 3))
  }
  for (const [name, next] of Object.entries(loads)) {
    const store = new SessionStore(max)
    const lru = new Lru(max)
    let ours = 0
    let lrus = 0
    for (let turn = 0; turn < requests; turn++) {
      const user = next()
      if (lru.ask(user)) lrus++
      const keyHash = hashOf(`${user}`)
      const entry = store.get(keyHash)
      if (entry === undefined) store.put(new SessionEntry({ ...template, keyHash }))
      else {
        entry.visited = true
        ours++
      }
    }
    t.equal(store.size, max)
    t.ok(ours >= lrus, `${name}: ${ours} of ${requests}, the LRU ${lrus}`)
  }
})

/** Draws rank r with a weight of 1 / (r + 1) ** exponent; the same draws for the same seed. */
function zipf (count: number, exponent: number, seed: number): () => number {
  let total = 0
  const cumulated = Array.from({ length: count }, (_, rank) => (total += 1 / (rank + 1) ** exponent))
  let state = seed
  return () => {
    state = Math.imul(state, 1_103_515_245) + 12_345 >>> 0
    const drawn = ((state ^ state >>> 15) >>> 0) / 4_294_967_296 * total
    return cumulated.findIndex(sum => sum > drawn)
  }
}

t.test('an eviction passes over a bounded number of entries even when all were hit', async t => {
  const store = new SessionStore(4000)
  const entries = Array.from({ length: 4000 }, (_, index) => entryOf(`user-${index}`))
  for (const entry of entries) {
    store.put(entry)
    entry.visited = true
  }
  store.put(entryOf('one more'))
  t.equal(store.size, 4000)
  t.equal(entries.filter(entry => store.holds(entry) && !entry.visited).length, 512)
})

t.test('an entry knows that it left, and why', async t => {
  const store = new SessionStore(2)
  const [first, second, third] = [entryOf('1'), entryOf('2'), entryOf('3')]
  t.notOk(store.holds(first))
  t.equal(store.whyLeft(first), null)
  store.put(first)
  t.ok(store.holds(first))
  t.equal(store.whyLeft(first), null)
  store.put(second)
  store.put(third)
  t.equal(store.whyLeft(first), 'evicted')
  const again = entryOf('2')
  store.put(again)
  t.notOk(store.holds(second))
  t.equal(store.whyLeft(second), 'replaced')
  t.equal(store.counts.replaced, 1)
  store.remove(again, 'expired')
  store.remove(again, 'expired')
  t.equal(store.whyLeft(again), 'expired')
  t.equal(store.counts.expired, 1)
  t.equal(store.clear(), 1)
  t.notOk(store.holds(third))
  t.equal(store.whyLeft(third), 'cleared')
  t.equal(new SessionStore(2).whyLeft(third), null, 'in another store it never was')
})

t.test('a cleared store lets go of its entries piecemeal, whoever remembers one of them', async t => {
  const store = new SessionStore(200)
  const entries = Array.from({ length: 150 }, (_, index) => entryOf(`user-${index}`))
  for (const entry of entries.slice(0, 100)) store.put(entry)
  store.clear()
  for (const entry of entries.slice(100)) store.put(entry)
  store.clear()
  store.clear()
  for (let user = 0; user < 5; user++) store.put(entryOf(`later-${user}`))
  t.ok(entries.every(entry => entry.newer === null && entry.older === null))
  t.equal(store.size, 5)
})

t.test('entries may come and go while all of them are walked through', async t => {
  const store = new SessionStore(100)
  for (let user = 0; user < 100; user++) store.put(entryOf(`user-${user}`))
  let seen = 0
  for (const entry of store.entries()) {
    if (seen++ % 2 === 0) store.remove(entry, 'expired')
    if (seen === 50) store.put(entryOf('newcomer'))
  }
  t.equal(seen, 101)
  t.equal(store.size, 50)
})

t.test('a walk that a clear interrupts goes on with what was put since, and never meets what was dropped', async t => {
  const store = new SessionStore(1000)
  for (let user = 0; user < 1000; user++) store.put(entryOf(`user-${user}`))
  const later = new Set<SessionEntry>()
  let met = 0
  let before = 0
  for (const entry of store.entries()) {
    if (later.size === 0) {
      if (++before < 10) continue
      store.clear()
      for (let user = 0; user < 1000; user++) later.add(entryOf(`later-${user}`))
      for (const one of later) store.put(one)
    } else {
      if (!later.has(entry)) t.fail('an entry that was dropped')
      met++
    }
  }
  t.ok(met > 500 && met <= 1000, `${met} met`)
})
