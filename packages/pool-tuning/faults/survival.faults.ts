import Fastify from 'fastify'
import pg from 'pg'
import t from 'tap'
import { startTcpProxy, testDatabase } from '@orientor/test-kit'
import { poolTuning } from '../src/index.js'

const turn = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const terminate = 'SELECT count(pg_terminate_backend(pid))::int AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()'
let unhandled = 0
process.on('unhandledRejection', () => { unhandled++ })

t.test('1,000 rounds of terminated backends under load, with transactions, synchronous throws and hijacked replies', { timeout: 240_000 }, async t => {
  const { url } = await testDatabase(t)
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  const app = Fastify()
  await app.register(poolTuning, { connectionString: url, environment: {}, size: 5, overflow: 5, settings: { idle_in_transaction_session_timeout: 100 } })
  app.get('/hijack', { pg: { transact: true } }, async (_request, reply) => { reply.hijack(); reply.raw.end('') })
  app.get('/ok', { pg: { transact: true } }, async request => (await request.pg!.query('SELECT 1 AS one')).rows[0])
  await app.ready()
  const load = { going: true }
  const workers = Array.from({ length: 8 }, async (_none, index) => {
    while (load.going) {
      const kind = index % 4
      if (kind === 0) await app.pg.query('SELECT 1').catch(() => {})
      else if (kind === 1) await app.pg.transact(async client => { await client.query('SELECT 1'); if (index === 5) await turn(150); return client.query('SELECT 2') }).catch(() => {})
      else if (kind === 2) await app.pg.transact(() => { throw new Error('synchronous') }).catch(() => {})
      else await app.inject(index === 3 ? '/hijack' : '/ok').catch(() => {})
    }
  })
  let killed = 0
  for (let round = 0; round < 1000; round++) {
    killed += (await admin.query(terminate)).rows[0].n
    await turn(5)
  }
  load.going = false
  await Promise.all(workers)
  await turn(200)
  const stats = app.poolTuning.pool.stats()
  t.comment(JSON.stringify({ injected: `1,000 rounds, ${killed} backends`, seen: stats.lost, unhandled, lent: stats.lent }))
  t.equal(stats.lent, 0, 'no client is leaked')
  t.equal(stats.waiting, 0)
  t.equal(unhandled, 0)
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  await app.close()
  await admin.end()
})

t.test('100,000 idempotent reads while all backends are terminated every 500 ms', { timeout: 240_000 }, async t => {
  const { url } = await testDatabase(t)
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  const app = Fastify()
  await app.register(poolTuning, { connectionString: url, environment: {} })
  await app.ready()
  let left = 100_000
  let failed = 0
  let worstMs = 0
  const workers = Array.from({ length: 16 }, async () => {
    while (left-- > 0) {
      const before = performance.now()
      await app.pg.query({ text: 'SELECT 1', idempotent: true } as { text: string }).catch(() => { failed++ })
      worstMs = Math.max(worstMs, performance.now() - before)
    }
  })
  let kills = 0
  const killer = setInterval(() => { kills++; admin.query(terminate).catch(() => {}) }, 500)
  await Promise.all(workers)
  clearInterval(killer)
  t.comment(JSON.stringify({ injected: `${kills} × terminate all`, retries: app.poolTuning.pool.stats().retries, failed, worstMs: Math.round(worstMs) }))
  t.equal(failed, 0)
  await app.close()
  await admin.end()
})

t.test('5 of 5 half-open connections: at most one slow or failed query; a waiter behind one is served at once', async t => {
  const { url } = await testDatabase(t)
  const proxy = await startTcpProxy(Number(new URL(url).port))
  t.teardown(() => proxy.stop())
  const through = new URL(url)
  through.port = String(proxy.port)
  const app = Fastify()
  await app.register(poolTuning, { connectionString: through.href, environment: {}, size: 5, overflow: 0, drainMs: 200, client: { query_timeout: 1000 } })
  await app.ready()
  const warm = async (): Promise<void> => { await Promise.all(Array.from({ length: 5 }, () => app.pg.query('SELECT pg_sleep(0.05)'))) }
  for (const idleMs of [1100, 0]) {
    await warm()
    await turn(idleMs)
    proxy.silence()
    const times: number[] = []
    let failed = 0
    for (let index = 0; index < 10; index++) {
      const before = performance.now()
      await app.pg.query('SELECT 1').catch(() => { failed++ })
      times.push(Math.round(performance.now() - before))
    }
    t.comment(JSON.stringify({ injected: `5 of 5 half-open after ${idleMs} ms idle`, failed, times }))
    t.ok(times.filter(ms => ms > 200).length <= 1)
    t.ok(failed <= 1 && Math.max(...times) < 1200)
  }
  await warm()
  const clients = await Promise.all(Array.from({ length: 5 }, () => app.pg.connect()))
  proxy.silence()
  const before = performance.now()
  const waiting = app.pg.query('SELECT 1')
  clients[0]!.release(true)
  await waiting
  const waitedMs = Math.round(performance.now() - before)
  t.comment(JSON.stringify({ injected: 'a waiter behind a half-open removal', waitedMs }))
  t.ok(waitedMs < 100)
  for (const client of clients.slice(1)) client.release(true)
  await app.close()
})
