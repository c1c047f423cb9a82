import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { LeastPerPosition, shiftCollections } from '../src/cache/least-worst.js'
import { identityOf, recordOf, subjectOf, tokenOf } from '../src/cache/population.js'

t.test('What comes now and then is taken out by the least per position, what comes each time stays', async t => {
  const times = new LeastPerPosition(4)
  for (const run of [[9, 1, 5], [1, 9, 5]]) run.forEach((elapsedMs, position) => { times.add(position, elapsedMs) })
  t.equal(times.worstMs, 5)
  t.equal(times.medianMs, 1)
  t.equal(new LeastPerPosition(1).worstMs, 0)
  t.not(shiftCollections(1), shiftCollections(2))
})

t.test('The users measured are all different, with rows of 15 fields and tokens of 15 claims in about 900 characters', async t => {
  t.equal(new Set(Array.from({ length: 5000 }, (_, user) => subjectOf(user))).size, 5000)
  t.ok([0, 35, 36, 2_249_999].every(user => subjectOf(user).length === 32))
  const { user } = recordOf(identityOf(7))
  t.equal(Object.keys(user).length - 1 + Object.keys(user.profile ?? {}).length, 15)
  const token = tokenOf(7, 1_760_000_000_000)
  t.ok(Math.abs(token.length - 900) < 75, `${token.length} characters`)
  t.equal(Object.keys(JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as object).length, 15)
})

t.test('bench:cache runs, and closes with one JSON object of all its figures', async t => {
  const main = fileURLToPath(new URL('../dist/cache.js', import.meta.url))
  const { PATH = '' } = process.env
  const { status, stdout, stderr } = spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, '--json', '--small', '100', '--large', '1000', '--runs', '2'], { env: { PATH }, encoding: 'utf8' })
  t.equal(status, 0, stderr)
  const { goals, hitRate, bytes, product } = JSON.parse(stdout.trim().split('\n').at(-1)!) as {
    goals: ReadonlyArray<{ name: string, value: number, most: number, met: boolean }>
    hitRate: { rates: Record<string, Record<string, number>> }
    bytes: Record<string, number>
    product: { set: Record<'small' | 'large', { mostEntries: number }> }
  }
  t.equal(goals.length, 12)
  t.ok(goals.every(({ name, value, most, met }) => Number.isFinite(value) && met === (value <= most) && stdout.includes(`${met ? 'met   ' : 'MISSED'}  ${name}`)))
  t.strictSame(Object.keys(hitRate.rates), ['Zipf 0.8', 'Zipf 1.0', 'scan'])
  for (const rates of Object.values(hitRate.rates)) t.ok(rates['session-cache']! >= rates['Map as LRU']! && rates['Map as LRU'] === rates['lru-cache'], JSON.stringify(rates))
  t.ok(bytes['session']! > bytes['row']! && bytes['together']! > bytes['token']!)
  t.equal(product.set.large.mostEntries, 1000)
})
