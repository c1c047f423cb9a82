import { spawnSync } from 'node:child_process'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { askAtOnce } from '../src/cold/at-once.js'
import { report, resultOf, type ColdResult, type ColdRuns } from '../src/cold/report.js'
import type { Rush } from '../src/cold/rush.js'
import { countedOf, kindsOf } from '../src/cold/sent-kinds.js'

const main = fileURLToPath(new URL('../dist/cold.js', import.meta.url))

function run (...args: string[]): { readonly status: number | null, readonly stdout: string, readonly stderr: string } {
  const { PATH = '' } = process.env
  return spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, ...args], { env: { PATH }, encoding: 'utf8' })
}

t.test('Requests are sent at once, each over its own connection, and answers count by status', async t => {
  const waiting: Array<() => void> = []
  const app = createServer((request, response) => {
    if (request.url !== '/me') {
      response.writeHead(404).end()
      return
    }
    // Nothing is answered until all have asked.
    waiting.push(() => {
      const { authorization } = request.headers
      if (authorization === 'Bearer lost') request.socket.destroy()
      else response.writeHead(authorization === 'Bearer refused' ? 503 : 200).end('{}')
    })
    if (waiting.length === 7) for (const answer of waiting) answer()
  })
  await new Promise<void>(resolve => { app.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => app.close())
  const { port } = app.address() as { port: number }
  const { statuses, times } = await askAtOnce([
    { port, tokens: ['a', 'b', 'refused'] }, { port, tokens: ['c', 'd', 'lost', 'e'] }
  ])
  t.strictSame([...statuses].sort(([a], [b]) => a - b), [[0, 1], [200, 5], [503, 1]])
  t.ok(times.length === 7 && times.every(ms => ms > 0))
})

t.test('Every statement counts but BEGIN, COMMIT and those of the bus', async t => {
  const kinds = kindsOf([
    { text: 'BEGIN ISOLATION LEVEL READ COMMITTED', calls: 3 },
    { text: 'COMMIT', calls: 3 },
    { text: 'SELECT p.flaw FROM "public"."orientor_outbox_poll"($1) AS p', calls: 40 },
    { text: 'SELECT set_config($1, $2, $3), pg_advisory_xact_lock_shared($4, to_regclass($5)::oid::int4)', calls: 3 },
    { text: 'WITH m AS (SELECT 1)\nINSERT INTO "users" AS u (issuer) SELECT $1', calls: 2 },
    { text: 'WITH m AS (SELECT 1)\nUPDATE "users" AS u SET email = $1', calls: 1 },
    { text: 'SELECT u.id\nFROM unnest($1::text[]) AS k JOIN "users" AS u ON true', calls: 5 },
    { text: 'ROLLBACK', calls: 7 }
  ])
  t.strictSame(kinds, { brackets: 6, bus: 40, reads: 5, locks: 3, writes: 3, others: 7 })
  t.equal(countedOf(kinds), 18)
})

t.test('Of several runs the worst counts and the median times are judged, by the goals for 10,000 users', async t => {
  const kinds = { brackets: 120, bus: 9, reads: 20, locks: 60, writes: 60, others: 0 }
  const good: Rush = {
    served: 10_000,
    answers: '200: 10000',
    rows: 10_000,
    statements: 140,
    kinds,
    ownStatements: 140,
    providerCalls: 100,
    deadlocks: 0,
    elapsedMs: 3000,
    averageMs: 2000,
    p50Ms: 2000,
    p99Ms: 2900
  }
  const one = { instances: 3, users: 2, requests: 1000, served: 1000, rows: 1, loadsPerInstance: 1, providerCalls: 3 }
  const cold = [good, good, { ...good, elapsedMs: 9000 }]
  const runs: ColdRuns = { users: 10_000, cold, keyed: [good], usual: good, one }
  const counts = { statements: 140, providerCalls: 100, unserved: 0 }
  t.match(resultOf(runs), { users: 10_000, runs: 3, ...counts, elapsedMs: 3000 })
  t.notMatch(report(runs), 'MISSED')
  const verdict = (worst: Partial<Rush>, other: Partial<ColdRuns> = {}): string => {
    return report({ ...runs, cold: [good, { ...good, ...worst }, good], ...other })
  }
  t.match(verdict({ statements: 151 }), /^statements: 151; the goal is at most 150: MISSED$/m)
  t.match(verdict({ providerCalls: 111 }), /^providerCalls: 111; the goal is at most 110: MISSED$/m)
  t.match(verdict({ deadlocks: 1 }), /^deadlocks: 1; .*: MISSED$/m)
  t.match(verdict({ served: 9999 }), /^unserved: 1; .*: MISSED$/m)
  t.match(verdict({ rows: 9998 }), /^unserved: 2; .*: MISSED$/m, 'an answer without a row')
  t.match(verdict({}, { users: 100 }), /^statements: 140; .*: not judged with 100 users$/m)
  for (const worse of [{ rows: 2 }, { loadsPerInstance: 2 }, { providerCalls: 4 }, { served: 999 }]) {
    t.match(verdict({}, { one: { ...one, ...worse } }), /^one user, .*: MISSED$/m)
  }
})

t.test('bench:cold runs, serves all, and closes with one JSON object of all its figures', async t => {
  const { status, stdout, stderr } = run('--json', '--users', '60', '--requests', '30', '--runs', '1')
  t.equal(status, 0, stderr)
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as ColdResult
  t.match(result, { users: 60, runs: 1, deadlocks: 0, unserved: 0, keysAtHand: { deadlocks: 0, unserved: 0 } })
  t.match(result.oneUser, { instances: 3, requests: 30, served: 30, rows: 1, loadsPerInstance: 1 })
  t.ok(result.statements >= 3 && result.statements < 60, `read, locked and written together: ${result.statements}`)
  t.ok(result.providerCalls >= 1 && result.providerCalls < 30, `asked for together: ${result.providerCalls}`)
  t.equal(result.usualWay.statements, 5 * 60, 'the usual way sends five statements for a new user')
  t.ok(result.oneUser.providerCalls <= 3, `${result.oneUser.providerCalls}`)
  t.match(stdout, '(they agree)', 'our own count of statements is the count of the database')
  t.match(stdout, ', 0 others;', 'every statement is of a known kind')
})

t.test('bench:cold refuses a senseless number of users', async t => {
  const { status, stderr } = run('--users', 'many')
  t.equal(status, 1)
  t.match(stderr, '--users must be a whole number of at least 1; received "many"')
})
