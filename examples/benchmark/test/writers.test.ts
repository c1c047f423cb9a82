import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { quartiles } from '../src/measure/quartiles.js'
import { figuresOf, report, resultOf, type Round, type WritersPart } from '../src/writers/report.js'

const main = fileURLToPath(new URL('../dist/writers.js', import.meta.url))

function run (...args: string[]): { readonly status: number | null, readonly stdout: string, readonly stderr: string } {
  const { PATH = '' } = process.env
  return spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, ...args], { env: { PATH }, encoding: 'utf8' })
}

t.test('Quartiles are the middles of the whole and of its halves', async t => {
  t.same(quartiles([3, 1, 2]), { low: 1.5, median: 2, high: 2.5 })
  t.same(quartiles([4, 1, 3, 2]), { low: 1.5, median: 2.5, high: 3.5 })
  t.same(quartiles([7]), { low: 7, median: 7, high: 7 })
})

t.test('Of writers the ratios of neighbours count, and the part of 16 that wait for the disk is judged', async t => {
  const round = (speed: number, outbox: number): Round =>
    ({ plain: speed, outbox: speed * outbox, notify: speed * outbox / 4, plainUnwatched: speed, outboxUnwatched: speed * 0.96 })
  const part = (synchronousCommit: 'on' | 'off', writers: number, share: number): WritersPart =>
    ({ synchronousCommit, writers, rounds: [round(1000, share), round(9000, share), round(100, share - 0.1), round(500, share + 0.1)] })
  const parts = [part('off', 16, 0.5), part('on', 16, 0.75), part('on', 32, 0.4)]
  const { perSecond, watchedShare } = figuresOf(parts[1]!)
  t.equal(perSecond.plain, 750)
  t.match([watchedShare.low, watchedShare.median, watchedShare.high].map(share => share.toFixed(2)), ['0.70', '0.75', '0.80'])
  const { watchedShare16, timesNotify16, unwatchedShare } = resultOf(parts)
  t.equal(watchedShare16.toFixed(3), '0.750')
  t.equal(timesNotify16, 4)
  t.equal(unwatchedShare, 0.96)
  t.match(report(parts), /watchedShare16: 0\.750; the goal is at least 0\.7: met\n.*timesNotify16: 4\.000; .*: met\nunwatchedShare: 0\.960; .*: MISSED/)
})

t.test('bench:writers runs, without pgbench too, and closes with one JSON object of all its figures', async t => {
  const { status, stdout, stderr } = run('--json', '--rounds', '1', '--milliseconds', '100', '--node')
  t.equal(status, 0, stderr)
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<string, unknown> & { parts: Array<{ rounds: number, perSecond: Record<string, number> }> }
  t.strictSame(Object.keys(result), ['generator', 'watchedShare16', 'timesNotify16', 'unwatchedShare', 'parts'])
  t.equal(result.parts.length, 8)
  const judged = result.parts.find(({ rounds }) => rounds > 1)!
  t.ok(Object.values(judged.perSecond).every(rate => rate > 0), JSON.stringify(judged))
})

t.test('bench:writers refuses a senseless number of rounds', async t => {
  const { status, stderr } = run('--rounds', '0')
  t.equal(status, 1)
  t.match(stderr, '--rounds must be a whole number of at least 1; received "0"')
})
