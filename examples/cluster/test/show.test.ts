import { EventEmitter } from 'node:events'
import { PassThrough } from 'node:stream'
import t from 'tap'
import { Ending } from '../src/show/ending.js'
import { listenToKeys } from '../src/show/keys.js'
import { tableOf, verdictOf } from '../src/show/lines.js'
import { readOptions, usage } from '../src/show/options.js'
import { pageOf } from '../src/show/page.js'
import { Screen } from '../src/show/screen.js'
import { Watcher } from '../src/show/watcher.js'
import type { Answer, CoherenceReport } from '../src/checker/index.js'
import type { InstanceRow } from '../src/show/instance-row.js'

const bounds = { maxStalenessMs: 2000, staleIfErrorMs: 900_000 }

function watcher (): { readonly watcher: Watcher, commit (version: number, atMs: number): void, hear (instance: string, atMs: number, answer: Answer, trusted?: boolean): void } {
  const watcher = new Watcher(['one', 'two'], bounds)
  return {
    watcher,
    commit (version, atMs) {
      watcher.begin('ann', version)
      watcher.commit({ key: 'ann', version, sentAtMs: atMs - 1, returnedAtMs: atMs })
    },
    hear (instance, atMs, answer, trusted = true) {
      watcher.hear({
        read: { instance, key: 'ann', begunAtMs: atMs - 1, endedAtMs: atMs, answer },
        trust: answer.kind === 'failed' ? null : { instance, begunAtMs: atMs - 1, endedAtMs: atMs, trusted, epoch: 1 },
        view: null
      })
    }
  }
}

const served = (version: number, marked = false): Answer => ({ kind: 'user', key: 'ann', version, marked })

t.test('A row says what an instance served last, how old that is, and how long the last change took', async t => {
  const { watcher: shown, commit, hear } = watcher()
  t.match(shown.rows(0), [{ name: 'one', version: null, ageMs: 0, propagationMs: null, medianMs: null, status: null }, { name: 'two' }])
  commit(0, 0)
  commit(1, 1000)
  hear('one', 1004, served(1))
  hear('two', 1005, served(0), false)
  hear('one', 1020, served(1))
  t.match(shown.rows(1500), [
    { name: 'one', version: 1, ageMs: 0, marked: false, trusted: true, propagationMs: 4, medianMs: 4, status: 200 },
    { name: 'two', version: 0, ageMs: 500, trusted: false, propagationMs: null, medianMs: null }
  ])
  t.equal(shown.newest, 1)
  commit(2, 2000)
  t.equal(shown.rows(2000)[0]!.propagationMs, null, 'the last change is not there yet')
  hear('one', 2010, served(2))
  hear('two', 2300, served(0, true))
  hear('two', 2400, { kind: 'failed', status: 503 })
  t.match(shown.rows(2500), [{ propagationMs: 10, medianMs: 10 }, { version: null, marked: false, status: 503, ageMs: 0 }])
})

t.test('While an instance is cut off, what it takes does not count among the medians', async t => {
  const { watcher: shown, commit, hear } = watcher()
  commit(0, 0)
  shown.cut('one', true)
  commit(1, 1000)
  hear('one', 9000, served(1))
  t.match(shown.rows(9000)[0], { cut: true, propagationMs: 8000, medianMs: null })
  shown.cut('one', false)
  commit(2, 10_000)
  hear('one', 10_003, served(2))
  t.match(shown.rows(10_003)[0], { cut: false, propagationMs: 3, medianMs: 3 })
})

t.test('The table aligns its columns', async t => {
  t.equal(tableOf([
    { name: 'one', cut: false, version: 12, ageMs: 0, marked: false, trusted: true, status: 200, propagationMs: 3.21, medianMs: 2.5 },
    { name: 'three', cut: true, version: null, ageMs: 0, marked: true, trusted: false, status: 503, propagationMs: null, medianMs: 1234 }
  ]), [
    'instance  database  version   age     mark   bus        last change  median',
    'one       reached   12        0.0 ms         trusted    3.2 ms       2.5 ms',
    'three     cut off   HTTP 503  0.0 ms  stale  untrusted  –            1,234 ms'
  ].join('\n'))
})

t.test('Everything fits 80 columns, however long it runs and however bad it gets', async t => {
  const broken = { 'unmarked too old': 1_000_000, 'marked too old': 0, regression: 0, 'mix-up': 0, 'unwritten version': 0 }
  const reports: CoherenceReport[] = [broken, { ...broken, 'unmarked too old': 0 }].map(violations => ({
    commits: 86_400, reads: 100_000_000, marked: 100_000_000, failed: { 503: 99_999_999, none: 1 }, violations, oldestUnmarkedMs: 86_400_000, oldestMarkedMs: 86_400_000, findings: []
  }))
  const timesMs = [0, 9.96, 10, 999.5, 9999.4, 9999.6, 10_000, 86_400_000]
  for (const ms of timesMs) {
    const row: InstanceRow = { name: 'three', cut: true, version: 12_345_678, ageMs: ms, marked: true, trusted: false, status: 200, propagationMs: ms, medianMs: ms }
    for (const report of reports) {
      const page = pageOf({ rows: [row, { ...row, version: null, status: 503 }, { ...row, version: null, status: null }], report, newest: 12_345_678, maxStalenessMs: 2000 })
      const widths = page.split('\n').map(line => line.length)
      t.ok(Math.max(...widths) <= 80, `${Math.max(...widths)} columns at ${ms} ms`)
    }
  }
  t.ok(usage.split('\n').every(line => line.length <= 80))
  const at = (ageMs: number) => tableOf([{ name: 'one', cut: true, version: 1, ageMs, marked: true, trusted: false, status: 200, propagationMs: null, medianMs: null }]).split(/ {2,}|\n/)[11]
  t.strictSame(timesMs.map(at), ['0.0 ms', '10.0 ms', '10 ms', '1,000 ms', '9,999 ms', '10 s', '10 s', '86,400 s'])
})

t.test('The verdict says whether the bound held, once there was an unmarked user to hold against it', async t => {
  const { watcher: shown, commit, hear } = watcher()
  t.equal(verdictOf(shown.report(), 2000), '0 reads: 0 marked stale, 0 without a user\nno unmarked user so far; the bound is 2,000 ms')
  commit(0, 0)
  commit(1, 1000)
  hear('two', 2400, { kind: 'failed', status: 503 })
  hear('two', 2500, served(0, true))
  t.equal(verdictOf(shown.report(), 2000), '2 reads: 1 marked stale, 1 without a user\nno unmarked user so far; the bound is 2,000 ms')
  hear('one', 2501, served(0))
  t.equal(verdictOf(shown.report(), 2000), '3 reads: 1 marked stale, 1 without a user\noldest unmarked user 1,500 ms; the bound is 2,000 ms: held')
  hear('one', 4001, served(0))
  t.match(verdictOf(shown.report(), 2000), /3,000 ms; the bound is 2,000 ms: BROKEN 1 times$/)
})

t.test('The command line takes a number of seconds and nothing else', async t => {
  t.strictSame(readOptions([]), { seconds: null })
  t.strictSame(readOptions(['--seconds', '2.5']), { seconds: 2.5 })
  for (const bad of ['0', '-1', 'x', '', '1e9']) t.throws(() => readOptions([`--seconds=${bad}`]), { message: /^--seconds must be a number above 0, at most 86400; received "/ })
  t.throws(() => readOptions(['--minutes', '1']), { message: /minutes/ })
  t.throws(() => readOptions(['5']))
})

t.test('Digits cut off and heal, q and Ctrl-C quit, everything else does nothing', async t => {
  const keyboard = new PassThrough() as PassThrough & { setRawMode: (raw: boolean) => void }
  const raw: boolean[] = []
  keyboard.setRawMode = on => { raw.push(on) }
  const pressed: Array<number | string> = []
  const release = listenToKeys(keyboard, 3, { toggle: index => { pressed.push(index) }, quit: () => { pressed.push('quit') } })
  keyboard.write('1')
  keyboard.write('304x \n2q\u0003')
  await new Promise(resolve => { setImmediate(resolve) })
  t.strictSame(pressed, [0, 2, 1, 'quit', 'quit'])
  release()
  t.strictSame(raw, [true, false])
  t.ok(keyboard.isPaused())
})

t.test('A screen draws page over page on a terminal, and only prints lines elsewhere', async t => {
  const written: string[] = []
  const terminal = new Screen({ isTTY: true, write: (text: string) => { written.push(text) } })
  terminal.draw('a\nb')
  terminal.draw('c')
  t.strictSame(written, ['\u001b[2J', '\u001b[Ha\u001b[K\nb\u001b[K\u001b[J', '\u001b[Hc\u001b[K\u001b[J'])
  const pipe = new Screen({ write: (text: string) => { written.push(text) } })
  pipe.draw('a')
  pipe.line('d')
  t.strictSame(written.slice(3), ['d\n'])
})

t.test('A signal, the time or a missing parent ends it, and however often only once', async t => {
  const surroundings = Object.assign(new EventEmitter(), { env: {}, ppid: 1 })
  const signalled = new Ending(surroundings)
  t.equal(signalled.isOver, false)
  surroundings.emit('SIGINT')
  surroundings.emit('SIGINT')
  await signalled.over
  t.equal(signalled.isOver, true)

  const timed = new Ending(surroundings)
  const keepAlive = setTimeout(() => {}, 10_000)
  timed.after(0.01)
  await timed.over

  const parent = { ...surroundings, on: () => {}, env: { npm_lifecycle_event: 'cluster' }, ppid: 1 }
  const orphan = new Ending(parent)
  parent.ppid = 2
  await orphan.over
  clearTimeout(keepAlive)
})
