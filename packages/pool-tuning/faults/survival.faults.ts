import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { postgresFaults, startTcpProxy, testDatabase, until, type PostgresFaults, type TcpProxy } from '@orientor/test-kit'
import { poolTuning, type PoolTuningOptions, type TunedPool, type TunedQueryConfig } from '../src/index.js'

const turn = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const read: TunedQueryConfig = { text: 'SELECT 1', idempotent: true }
let unhandled = 0
process.on('unhandledRejection', () => { unhandled++ })

interface World { readonly app: FastifyInstance, readonly pool: TunedPool, readonly faults: PostgresFaults, readonly proxy: TcpProxy }

async function setup (t: Test, options: PoolTuningOptions = {}, routes: (app: FastifyInstance) => void = () => {}): Promise<World> {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const proxy = await startTcpProxy(Number(new URL(database.url).port))
  t.teardown(() => proxy.stop())
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(poolTuning, { connectionString: proxy.through(database.url), environment: {}, drainMs: 500, ...options })
  routes(app)
  await app.ready()
  return { app, pool: app.poolTuning.pool, faults, proxy }
}

/** Tells the table. */
const tell = (t: Test, row: { readonly injected: string, readonly seen: string, readonly reached: string }): void => { t.comment(JSON.stringify(row)) }

t.test('1,000 rounds of terminated backends under load, with idle transactions, synchronous throws and hijacked replies', { timeout: 400_000 }, async t => {
  const { app, pool, faults } = await setup(t, { size: 5, overflow: 5, settings: { idle_in_transaction_session_timeout: 100 } }, app => {
    app.get('/hijack', { pg: { transact: true } }, async (_request, reply) => { reply.hijack(); reply.raw.end('') })
    app.get('/ok', { pg: { transact: true } }, async request => (await request.pg!.query('SELECT 1 AS one')).rows[0])
  })
  const done = { queries: 0, transactions: 0, idled: 0, thrown: 0, routes: 0 }
  const load = { going: true }
  const pid = process.pid
  const idle = async (): Promise<void> => {
    await app.pg.transact(async client => { await client.query('SELECT 1'); await turn(150); return client.query('SELECT 2') }).catch(() => { done.idled++ })
  }
  const kinds = [
    async () => { await app.pg.query('SELECT 1').then(() => { done.queries++ }, () => {}) },
    async () => { await app.pg.transact(async client => { await client.query('SELECT 1'); return client.query('SELECT 2') }).then(() => { done.transactions++ }, () => {}) },
    idle,
    async () => { await app.pg.transact(() => { throw new Error('synchronous') }).catch(() => { done.thrown++ }) },
    async () => { await app.inject('/hijack').then(() => { done.routes++ }, () => {}) },
    async () => { await app.inject('/ok').then(() => { done.routes++ }, () => {}) }
  ]
  const workers = Array.from({ length: 12 }, async (_none, index) => {
    while (load.going) {
      await kinds[index % kinds.length]!()
      await turn(0)
    }
  })
  let killed = 0
  for (let round = 0; round < 1000; round++) {
    killed += await faults.terminate()
    await turn(5)
  }
  load.going = false
  await Promise.all(workers)
  await until('everything is given back', () => pool.stats().lent === 0)
  t.match(pool.stats(), { lent: 0, waiting: 0 }, 'no client is leaked')
  t.equal(unhandled, 0)
  t.equal(process.pid, pid)
  t.ok(done.idled > 0 && done.thrown > 0 && done.routes > 0 && done.transactions > 0)
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  tell(t, { injected: `1,000 rounds, ${killed} backends terminated`, seen: `${pool.stats().lost} lost while idle or between statements; done ${JSON.stringify(done)}`, reached: `same process, ${unhandled} unhandled, ${pool.stats().lent} leaked` })
})

t.test('100,000 idempotent reads while all backends are terminated every 500 ms', { timeout: 400_000 }, async t => {
  const { pool, faults } = await setup(t)
  let left = 100_000
  let failed = 0
  let worstMs = 0
  const killer = faults.terminateEvery(500)
  await Promise.all(Array.from({ length: 16 }, async () => {
    while (left-- > 0) {
      const before = performance.now()
      await pool.query(read).catch(() => { failed++ })
      worstMs = Math.max(worstMs, performance.now() - before)
    }
  }))
  await killer.heal()
  tell(t, { injected: `${await killer.struck()} backends terminated, every 500 ms`, seen: `${pool.stats().retries} sent again`, reached: `${failed} of 100,000 failed, worst ${Math.round(worstMs)} ms` })
  t.equal(failed, 0)
  t.ok(pool.stats().retries > 0)
})

t.test('5 of 5 half-open connections: at most one slow or failed query; a waiter behind one is served at once', async t => {
  const { pool, proxy } = await setup(t, { size: 5, overflow: 0, client: { query_timeout: 1000 } })
  const warm = async (): Promise<void> => { await Promise.all(Array.from({ length: 5 }, () => pool.query('SELECT pg_sleep(0.05)'))) }
  for (const idleMs of [1100, 0]) {
    await warm()
    await turn(idleMs)
    proxy.silence()
    const times: number[] = []
    let failed = 0
    for (let index = 0; index < 10; index++) {
      const before = performance.now()
      await pool.query('SELECT 1').catch(() => { failed++ })
      times.push(Math.round(performance.now() - before))
    }
    tell(t, { injected: `5 of 5 half-open after ${idleMs} ms idle`, seen: `times in ms: ${times.join(' ')}`, reached: `${failed} failed` })
    t.ok(times.filter(ms => ms > 200).length <= 1)
    t.ok(failed <= 1 && Math.max(...times) < 1300)
  }
  await warm()
  const clients = await Promise.all(Array.from({ length: 5 }, () => pool.connect()))
  proxy.silence()
  const before = performance.now()
  const waiting = pool.query('SELECT 1')
  clients[0]!.release(true)
  await waiting
  const waitedMs = Math.round(performance.now() - before)
  tell(t, { injected: 'a waiter behind a half-open removal', seen: '', reached: `served after ${waitedMs} ms` })
  t.ok(waitedMs < 300)
  for (const client of clients.slice(1)) client.release(true)
})

t.test('killed or frozen for seconds under load, the cluster serves reads within a second of its being there again', { timeout: 120_000 }, async t => {
  const { pool, faults } = await setup(t)
  const load = { going: true, failed: 0, answered: 0 }
  const workers = Array.from({ length: 16 }, async () => {
    while (load.going) {
      await pool.query(read).then(() => { load.answered++ }, () => { load.failed++ })
      await turn(5)
    }
  })
  for (const kind of ['killed', 'frozen', 'frozen'] as const) {
    const fault = kind === 'killed' ? await faults.killCluster() : faults.freeze('cluster')
    await turn(4000)
    await fault.heal()
    const readyAtMs = performance.now()
    const before = load.answered
    await until('a read is answered', () => load.answered > before)
    const freshMs = performance.now() - readyAtMs
    // All of the load, not only the first of it.
    await until('everybody is served', () => load.answered > before + 100)
    const allMs = performance.now() - readyAtMs
    tell(t, { injected: `the cluster ${kind} for 4 s under 16 readers`, seen: `${load.failed} failed meanwhile`, reached: `first answer ${Math.round(freshMs)} ms after it was ready, the hundredth after ${Math.round(allMs)} ms` })
    t.ok(freshMs < 1000)
    load.failed = 0
    await turn(500)
  }
  load.going = false
  await Promise.all(workers)
  t.match(pool.stats(), { lent: 0, waiting: 0 })
})

t.test('with the whole cluster frozen under load, a service closes within 10 s and its process ends by itself', { timeout: 60_000 }, async t => {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const child = spawn(process.execPath, ['--input-type=module', '-e', `
    import Fastify from 'fastify'
    import { poolTuning } from '@orientor/pool-tuning'
    const app = Fastify()
    await app.register(poolTuning, { connectionString: ${JSON.stringify(database.url)}, environment: {} })
    await app.ready()
    await Promise.all(Array.from({ length: 5 }, () => app.pg.query('SELECT pg_sleep(0.1)')))
    process.once('SIGTERM', async () => {
      const ends = { answered: 0, failed: 0 }
      for (let index = 0; index < 40; index++) app.pg.query('SELECT 1').then(() => { ends.answered++ }, () => { ends.failed++ })
      app.pg.transact(async client => client.query('SELECT 1')).then(() => { ends.answered++ }, () => { ends.failed++ })
      await new Promise(resolve => { setTimeout(resolve, 100) })
      const since = performance.now()
      await app.close()
      console.log(JSON.stringify({ closedMs: Math.round(performance.now() - since), ...ends }))
    })
    setInterval(() => {}, 1000).unref()
    const hold = setInterval(() => {}, 1000)
    process.once('SIGTERM', () => { clearInterval(hold) })
    console.log('ready')
  `], { cwd: fileURLToPath(new URL('..', import.meta.url)), stdio: ['ignore', 'pipe', 'inherit'] })
  const gone = new Promise<number | null>(resolve => { child.once('exit', resolve) })
  t.teardown(() => { child.kill('SIGKILL') })
  let output = ''
  child.stdout.on('data', chunk => { output += String(chunk) })
  await until('the service is ready', () => output.includes('ready'), 20_000)
  const frozen = faults.freeze('cluster')
  const sinceMs = performance.now()
  child.kill('SIGTERM')
  const code = await gone
  const exitMs = Math.round(performance.now() - sinceMs)
  await frozen.heal()
  const { closedMs, answered, failed } = JSON.parse(output.split('\n')[1]!)
  tell(t, { injected: 'the whole cluster frozen, 41 statements in flight or waiting', seen: `${answered} answered, ${failed} failed`, reached: `app.close() ${closedMs} ms, process gone ${exitMs} ms after SIGTERM` })
  t.equal(code, 0)
  t.ok(closedMs <= 10_000)
  t.ok(exitMs <= 11_000)
})
