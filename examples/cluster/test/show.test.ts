import { EventEmitter } from 'node:events'
import { PassThrough } from 'node:stream'
import t from 'tap'
import { Ending } from '../src/show/ending.js'
import { listenToKeys } from '../src/show/keys.js'
import { lineOf, tableOf, verdictOf } from '../src/show/lines.js'
import { readOptions } from '../src/show/options.js'
import { Screen } from '../src/show/screen.js'
import { Watcher } from '../src/show/watcher.js'
import type { Answer } from '../src/checker/index.js'

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
  t.match(shown.rows(2500), [{ propagationMs: 10, medianMs: 10 }, { version: null, marked: false, status: 503, markedAnswers: 1, ageMs: 0 }])
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

t.test('The table aligns its columns; a line says the same where nothing can be drawn over', async t => {
  const rows = [
    { name: 'one', cut: false, version: 12, ageMs: 0, marked: false, trusted: true, status: 200, propagationMs: 3.21, medianMs: 2.5, markedAnswers: 0 },
    { name: 'three', cut: true, version: null, ageMs: 0, marked: false, trusted: false, status: 503, propagationMs: null, medianMs: 1234, markedAnswers: 1200 }
  ]
  t.equal(tableOf(rows), [
    'instance  database  version   age     mark  bus          last change  median    marked so far',
    'one       reached   12        0.0 ms        trusted      3.2 ms       2.5 ms    0',
    'three     cut off   HTTP 503  0.0 ms        not trusted  –            1,234 ms  1,200'
  ].join('\n'))
  t.equal(lineOf({ ...rows[0]!, marked: true }), 'one: version 12, 0.0 ms old, marked stale, bus trusted, database reached, last change after 3.2 ms')
})

t.test('The verdict says whether the bound held', async t => {
  const { watcher: shown, commit, hear } = watcher()
  commit(0, 0)
  commit(1, 1000)
  hear('one', 2501, served(0))
  t.equal(verdictOf(shown.report(), 2000), '1 reads; oldest unmarked user 1,500 ms, the bound is 2,000 ms: held')
  hear('one', 4001, served(0))
  t.match(verdictOf(shown.report(), 2000), /3,000 ms, the bound is 2,000 ms: BROKEN 1 times$/)
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
