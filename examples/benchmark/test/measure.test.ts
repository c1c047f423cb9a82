import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { figuresOf, report, resultOf } from '../src/hot/report.js'
import { drawing } from '../src/hot/crowd.js'
import { summarise } from '../src/measure/latencies.js'
import { median } from '../src/measure/median.js'
import { seeded } from '../src/measure/random.js'
import { figure, table } from '../src/measure/table.js'
import { zipf } from '../src/measure/zipf.js'
import type { PoolPart, Slice } from '../src/pool/part.js'
import { figures as poolFiguresOf, report as poolReport, type PoolFigures } from '../src/pool/report.js'

t.test('The same seed draws the same numbers, all from 0 to below 1 and evenly spread', async t => {
  const drawn = Array.from({ length: 10_000 }, seeded(7))
  t.strictSame(drawn, Array.from({ length: 10_000 }, seeded(7)))
  t.not(drawn[0], seeded(8)())
  t.ok(drawn.every(value => value >= 0 && value < 1))
  t.ok(Math.abs(drawn.reduce((sum, value) => sum + value) / drawn.length - 0.5) < 0.02)
})

t.test('Zipf draws rank r with a share of 1 / r', async t => {
  const draw = zipf(130, 1, seeded(1))
  const counts = new Array<number>(130).fill(0)
  for (let turn = 0; turn < 100_000; turn++) counts[draw()]!++
  const harmonic = Array.from({ length: 130 }, (_, rank) => 1 / (rank + 1)).reduce((sum, value) => sum + value)
  for (const rank of [0, 1, 9, 99]) {
    const expected = 100_000 / (rank + 1) / harmonic
    t.ok(Math.abs(counts[rank]! - expected) < 5 * Math.sqrt(expected), `rank ${rank + 1}: ${counts[rank]} of ${Math.round(expected)}`)
  }
  t.equal(zipf(1, 1, () => 0.999)(), 0)
})

t.test('Percentiles are by the nearest rank', async t => {
  t.strictSame(summarise([4, 1, 3, 2]), { averageMs: 2.5, p50Ms: 2, p99Ms: 4 })
  t.strictSame(summarise([5]), { averageMs: 5, p50Ms: 5, p99Ms: 5 })
})

t.test('A table aligns its columns, a figure has three digits', async t => {
  t.equal(table([['', 'n'], ['one', '1'], ['many', '1,000']]), '          n\n----  -----\none       1\nmany  1,000')
  t.strictSame([0.12345, 1234.5, 0, 12.34, null].map(figure), ['0.123', '1,235', '0', '12.3', '–'])
})

t.test('An overhead is the median over processes of the median ratio of pairs', async t => {
  const slice = (micros: number): Slice => ({ wallMicros: micros, cpuMicros: micros / 2 })
  const part = (ratio: number): PoolPart => {
    // The middle pair decides; the noise of the last is shared by both of its slices.
    const pairs = [[10, 10 * ratio + 5], [10, 10 * ratio], [1000, 1000 * ratio]].map(([stock, tuned]) => ({ stock: slice(stock!), tuned: slice(tuned!) }))
    return { query: pairs, checkout: pairs, failing: pairs }
  }
  const result = poolFiguresOf([part(1.02), part(1.5), part(1.04)])
  t.equal(Math.round(result.checkoutOverhead * 1000), 40)
  t.equal(Math.round(result.checkoutCpuOverhead * 1000), 40)
  t.equal(Math.round(result.failingQueryGain * 1000), Math.round(1000 / 1.04))
  t.match(poolReport(result), /checkoutOverhead: .* met/)
  t.match(poolReport(result), /failingQueryGain: .* MISSED/)
  t.strictSame([median([3, 1, 2]), median([1, 2, 3, 4])], [2, 2.5])
})

t.test('bench:pool runs, and closes with one JSON object of its figures', async t => {
  const main = fileURLToPath(new URL('../dist/pool.js', import.meta.url))
  const { PATH = '' } = process.env
  const { status, stdout, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, '--json', '--processes', '1', '--pairs', '4', '--statements', '50', '--failures', '5'], { env: { PATH }, encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as PoolFigures
  t.ok(Number.isFinite(result.checkoutOverhead))
  t.ok(result.failingQueryGain > 2, `a failing query is cheaper: ${result.failingQueryGain}`)
  t.ok(Object.values(result.micros).every(({ stock, tuned }) => stock.wallMicros > 0 && tuned.cpuMicros > 0))
})

t.test('bench:source runs, and closes with one JSON object of all its figures', async t => {
  const main = fileURLToPath(new URL('../dist/source.js', import.meta.url))
  const { PATH = '' } = process.env
  const { status, stdout, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, '--json', '--seconds', '0.5'], { env: { PATH }, encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const keys = ['statementsPerAuth', 'baselineStatementsPerAuth', 'reduction', 'hitRate', 'syncSkipRate', 'opsPerSecond', 'averageMs', 'p50Ms', 'p99Ms', 'baselineAverageMs', 'poolUtilisation', 'executionTimeMs']
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<'cold' | 'sustained', Record<string, number>>
  t.strictSame(Object.keys(result), ['cold', 'sustained'])
  for (const part of Object.values(result)) {
    t.strictSame(Object.keys(part).sort(), [...keys].sort())
    t.ok(Object.values(part).every(Number.isFinite))
    t.equal(part['baselineStatementsPerAuth'], 3, 'the usual way sends three statements each')
  }
  t.equal(stdout.match(/they agree/g)?.length, 2, 'our own count of statements is the count of the database')
  t.ok(result.cold['statementsPerAuth']! > 0 && result.cold['statementsPerAuth']! <= 0.12, `cold: ${result.cold['statementsPerAuth']}`)
  // Half a second is too short for the goal of the sustained part: the few users who were not drawn before come up in it.
  t.ok(result.sustained['statementsPerAuth']! <= 0.06, `sustained: ${result.sustained['statementsPerAuth']}`)
})

t.test('A crowd is drawn evenly, or so that a few ask most of the time, whoever signed up first', async t => {
  const share = (zipf: number): number[] => {
    const draw = drawing({ users: 100, zipf }, 3)
    const counts = new Array<number>(100).fill(0)
    for (let turn = 0; turn < 100_000; turn++) counts[draw()]!++
    return counts
  }
  t.ok(share(0).every(count => Math.abs(count - 1000) < 200))
  const uneven = share(1)
  t.ok(Math.max(...uneven) > 15_000)
  t.not(uneven.indexOf(Math.max(...uneven)), 0)
})

t.test('The result names the worst load of the stack, and holds peers against the load that they had too', async t => {
  const crowd = { users: 1000, zipf: 0 }
  const shown = (cpuShare: number) => ({ cpuShare, addedMicros: 1 / cpuShare, bareMicros: 10 })
  const loads = [figuresOf(crowd, [0.8, 0.9, 0.7].map(shown)), figuresOf({ users: 10_000, zipf: 1 }, [0.75, 0.6, 0.77].map(shown))]
  t.match(loads[0], { ...crowd, cpuShare: 0.8, lowestCpuShare: 0.7, highestCpuShare: 0.9, bareMicros: 10 })
  const names = ['layered-loader', 'async-cache-dedupe', 'fastify-jwt', 'jose', 'clerk']
  const result = resultOf(loads, Object.fromEntries(names.map(name => [name, figuresOf(crowd, [shown(0.4)])])))
  t.equal(result.cpuShare, 0.75)
  t.equal(result.addedMicros, 1 / 0.75)
  t.equal(result.peers['jose']!.times, 2)
  const text = report(result)
  t.match(text, /1,000 users uniform: 0\.8 of the bare route.*: met/)
  t.match(text, /10,000 users Zipf 1\.0: 0\.75 of the bare route.*: MISSED/)
  t.match(text, /jose: 2 times its share; the goal is at least 4: MISSED/)
})

t.test('bench:hot runs, resolves every user rightly, and closes with one JSON object', async t => {
  const main = fileURLToPath(new URL('../dist/hot.js', import.meta.url))
  const { PATH = '' } = process.env
  const { status, stdout, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, '--json', '--quick'], { env: { PATH }, encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as { cpuShare: number, addedMicros: number, loads: Array<Record<string, number>>, peers: Record<string, Record<string, number>> }
  t.strictSame(Object.keys(result), ['cpuShare', 'addedMicros', 'loads', 'peers'])
  t.strictSame(Object.keys(result.peers), ['layered-loader', 'async-cache-dedupe', 'fastify-jwt', 'jose', 'clerk'])
  t.equal(result.loads.length, 2)
  for (const figures of [...result.loads, ...Object.values(result.peers)]) t.ok(Object.values(figures).every(Number.isFinite))
  t.ok(result.cpuShare > 0 && result.peers['clerk']!['times']! > 1)
})
