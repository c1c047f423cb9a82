import fc from 'fast-check'
import t from 'tap'
import { CoherenceChecker, Convergence, TrustWatch, violationsOf, type Read } from '../src/checker/index.js'

const bounds = { maxStalenessMs: 2000, staleIfErrorMs: 5000 }

function checkerWith (...commits: ReadonlyArray<readonly [version: number, returnedAtMs: number]>): CoherenceChecker {
  const checker = new CoherenceChecker(bounds)
  for (const [version, returnedAtMs] of commits) {
    checker.begin('ann', version)
    checker.commit({ key: 'ann', version, sentAtMs: returnedAtMs - 1, returnedAtMs })
  }
  return checker
}

function read (version: number, begunAtMs: number, { endedAtMs = begunAtMs + 1, marked = false, instance = 'a', key = 'ann', asked = 'ann' } = {}): Read {
  return { instance, key: asked, begunAtMs, endedAtMs, answer: { kind: 'user', key, version, marked } }
}

t.test('An unmarked user is too old when a newer version had been committed more than B before the request was sent', async t => {
  const checker = checkerWith([1, 0], [2, 1000])
  t.equal(checker.read(read(1, 3000)), null, 'exactly B')
  t.equal(checker.read(read(1, 3000.5)), 'unmarked too old')
  t.equal(checker.read(read(2, 9000)), null, 'the newest is never too old')
  const report = checker.report()
  t.match(report, { commits: 2, reads: 3, marked: 0, oldestUnmarkedMs: 2000.5, violations: { 'unmarked too old': 1 } })
  t.match(report.findings[0], /^unmarked too old: ann at a, 3000\.5 to 3001\.5 ms, saw version 1, superseded 200[01] ms before$/)
  t.equal(violationsOf(report), 1)
})

t.test('The age counts from the first newer version, however many followed', async t => {
  const checker = checkerWith([1, 0], [2, 1000], [3, 2900], [4, 2950])
  t.equal(checker.read(read(1, 3100)), 'unmarked too old')
  t.equal(checker.read(read(2, 3100)), null)
})

t.test('A request that was sent before, or a commit that has not returned, proves nothing', async t => {
  const checker = checkerWith([1, 0], [2, 1000])
  t.equal(checker.read(read(1, 2999, { endedAtMs: 60_000 })), null, 'answered late, but asked early')
  checker.begin('ann', 3)
  t.equal(checker.read(read(2, 90_000)), null, 'version 3 is on its way')
  t.equal(checker.read(read(3, 90_000, { endedAtMs: 90_002 })), null, 'and may be seen before its COMMIT returns')
})

t.test('A marked user may be older by S, not more', async t => {
  const checker = checkerWith([1, 0], [2, 1000])
  t.equal(checker.read(read(1, 8000, { marked: true })), null)
  t.equal(checker.read(read(1, 8001, { marked: true })), 'marked too old')
  t.match(checker.report(), { marked: 2, oldestMarkedMs: 7001, oldestUnmarkedMs: 0 })
})

t.test('Versions must not go back between an answer that was there and a request that was sent after it', async t => {
  const checker = checkerWith([1, 0], [2, 1000])
  t.equal(checker.read(read(2, 1100, { endedAtMs: 1200 })), null)
  t.equal(checker.read(read(1, 1150, { endedAtMs: 1201 })), null, 'they overlap')
  t.equal(checker.read(read(1, 1200, { endedAtMs: 1202 })), null, 'the same instant is not after')
  t.equal(checker.read(read(1, 1200.1, { endedAtMs: 1203 })), 'regression')
  t.equal(checker.read(read(1, 1300, { instance: 'b' })), null, 'another instance')
  t.equal(checker.read(read(1, 1400, { marked: true })), null, 'marked ones may')
  t.equal(checker.read(read(2, 1500)), null)
})

t.test('What a marked answer showed, a later unmarked one must show too', async t => {
  const checker = checkerWith([1, 0], [2, 1000])
  t.equal(checker.read(read(2, 1100, { marked: true })), null)
  t.equal(checker.read(read(1, 1200)), 'regression')
})

t.test('A user who was not asked for, and a version that nobody began to write, are told', async t => {
  const checker = checkerWith([1, 0])
  t.equal(checker.read(read(1, 10, { key: 'bob' })), 'mix-up')
  t.equal(checker.read(read(2, 20)), 'unwritten version')
  t.equal(checker.report().findings.length, 2)
})

t.test('Requests that failed are counted by status, and are no violations', async t => {
  const checker = checkerWith([1, 0])
  for (const status of [503, 503, null]) checker.read({ instance: 'a', key: 'ann', begunAtMs: 1, endedAtMs: 2, answer: { kind: 'failed', status } })
  t.strictSame(checker.report().failed, { 503: 2, none: 1 })
  t.equal(violationsOf(checker.report()), 0)
})

t.test('What is told out of order is refused, since it could not be judged', async t => {
  const checker = checkerWith([1, 0], [2, 1000])
  t.throws(() => { checker.begin('ann', 2) }, { message: /must grow/ })
  t.throws(() => { checker.commit({ key: 'ann', version: 3, sentAtMs: 1, returnedAtMs: 2 }) }, { message: /in their order/ })
  checker.begin('ann', 3)
  t.throws(() => { checker.commit({ key: 'ann', version: 3, sentAtMs: 1, returnedAtMs: 2 }) }, { message: /in their order/ })
  checker.read(read(2, 5000))
  t.throws(() => { checker.read(read(2, 4000)) }, { message: /in which their answers came in/ })
})

// One key, one instance; the truth is a list of real instants, the checker sees intervals around them.
t.test('Whatever the intervals, an answer that is right is never flagged, and one that is certainly too old always is', async t => {
  const gap = fc.integer({ min: 0, max: 3000 })
  fc.assert(fc.property(
    fc.array(fc.record({ pauseMs: gap, uncertainMs: fc.integer({ min: 0, max: 500 }) }), { minLength: 1, maxLength: 15 }),
    fc.array(fc.record({ atMs: fc.integer({ min: 0, max: 20_000 }), beforeMs: fc.integer({ min: 0, max: 500 }), ageMs: fc.integer({ min: 0, max: 4000 }) }), { maxLength: 30 }),
    (writes, reads) => {
      let atMs = 0
      const commits = writes.map(({ pauseMs, uncertainMs }, index) => {
        const sentAtMs = atMs + pauseMs
        const realMs = sentAtMs + uncertainMs / 2
        atMs = sentAtMs + uncertainMs
        return { key: 'ann', version: index + 1, sentAtMs, realMs, returnedAtMs: atMs }
      })
      const versionAt = (ms: number): number => commits.filter(({ realMs }) => realMs <= ms).length
      const checker = new CoherenceChecker(bounds)
      checker.begin('ann', 0)
      checker.commit({ key: 'ann', version: 0, sentAtMs: 0, returnedAtMs: 0 })
      for (const { version } of commits) checker.begin('ann', version)
      for (const commit of commits) checker.commit(commit)
      for (const [index, { atMs, beforeMs, ageMs }] of reads.sort((a, b) => a.atMs - b.atMs).entries()) {
        // The instance shows the row as it was `ageMs` before it was asked; each read at an instance of its own, so that only ages count.
        const version = versionAt(atMs - ageMs)
        const verdict = checker.read({ instance: String(index), key: 'ann', begunAtMs: atMs - beforeMs, endedAtMs: atMs, answer: { kind: 'user', key: 'ann', version, marked: false } })
        const superseded = commits.find(commit => commit.version > version)
        if (ageMs <= bounds.maxStalenessMs && verdict !== null) return false
        const certainly = superseded !== undefined && atMs - beforeMs - superseded.returnedAtMs > bounds.maxStalenessMs
        if (certainly !== (verdict === 'unmarked too old')) return false
      }
      return true
    }), { numRuns: 2000 })
})

t.test('A cluster has converged when every instance has shown every key as it was, or newer, unmarked', async t => {
  const convergence = new Convergence(1000, new Map([['ann', 5]]), ['a', 'b'])
  t.equal(convergence.tookMs, Infinity)
  t.strictSame(convergence.missing, ['ann at a', 'ann at b'])
  convergence.read(read(5, 999, { endedAtMs: 1001 }))
  convergence.read(read(4, 1010))
  convergence.read(read(5, 1020, { marked: true }))
  convergence.read({ instance: 'a', key: 'ann', begunAtMs: 1030, endedAtMs: 1031, answer: { kind: 'failed', status: 503 } })
  t.equal(convergence.missing.length, 2, 'asked too early, too old, marked, failed')
  convergence.read(read(6, 1100, { endedAtMs: 1150 }))
  convergence.read(read(5, 1300, { instance: 'b', endedAtMs: 1310 }))
  convergence.read(read(5, 5000))
  t.equal(convergence.tookMs, 310)
  t.strictSame(convergence.missing, [])
})

t.test('Trust is back when every instance that had lost it says so in answer to a request that was sent after the fault', async t => {
  const sample = (instance: string, atMs: number, trusted: boolean, epoch: number) => ({ instance, begunAtMs: atMs, endedAtMs: atMs + 1, trusted, epoch })
  const watch = new TrustWatch(new Map([['a', 1], ['b', 1], ['c', 1]]))
  watch.sample(sample('a', 100, true, 1))
  watch.sample(sample('a', 200, false, 1))
  watch.sample(sample('a', 300, true, 2))
  watch.heal(1000, 5000)
  t.equal(watch.backAfterMs, Infinity, 'what it said before the end of the fault does not count')
  watch.sample(sample('a', 1400, true, 2))
  t.equal(watch.backAfterMs, 401)
  watch.sample(sample('b', 2000, true, 2))
  t.equal(watch.backAfterMs, 1001, 'another epoch: it was lost and is back')
  watch.sample(sample('c', 6000, false, 1))
  watch.sample(sample('stranger', 6000, false, 1))
  t.strictSame(watch.lost, ['a', 'b'], 'what is lost later has other reasons')
})
