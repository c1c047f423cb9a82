import { spawn } from 'node:child_process'
import { get } from 'node:http'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { postgresFaults, startTcpProxy, testDatabase, testServer, until, type PostgresFaults, type PostgresServer, type TcpProxy } from '@orientor/test-kit'
import { poolTuning, type PoolTuningOptions, type TunedPool, type TunedQueryConfig } from '../src/index.js'

interface World { readonly app: FastifyInstance, readonly pool: TunedPool, readonly faults: PostgresFaults, readonly proxy: TcpProxy, readonly url: string }

async function setup (t: Test, options: PoolTuningOptions = {}, url?: (faults: PostgresFaults) => Promise<string>, server?: PostgresServer): Promise<World> {
  const database = server === undefined ? await testDatabase(t) : { server, url: await server.createDatabase() }
  const faults = postgresFaults(t, database)
  const proxy = await startTcpProxy(Number(new URL(database.url).port))
  t.teardown(() => proxy.stop())
  const app = Fastify()
  t.teardown(() => app.close())
  const target = url === undefined ? database.url : await url(faults)
  await app.register(poolTuning, { connectionString: proxy.through(target), environment: {}, drainMs: 300, ...options })
  await app.ready()
  return { app, pool: app.poolTuning.pool, faults, proxy, url: database.url }
}

const turn = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })
const read: TunedQueryConfig = { text: 'SELECT 1 AS one', idempotent: true }
const pidOf = async (from: { query (text: string): Promise<pg.QueryResult> }): Promise<number> => (await from.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
/** Connects that many at once, which the pool then keeps. */
const warm = (pool: TunedPool, count: number): Promise<unknown> => Promise.all(Array.from({ length: count }, () => pool.query('SELECT pg_sleep(0.05)')))

t.test('after the cluster was killed or frozen, reads are answered soon after it is there again', async t => {
  const { pool, faults } = await setup(t)
  for (const [name, strike] of [['killed', () => faults.killCluster()], ['frozen', async () => faults.freeze('cluster')]] as const) {
    await warm(pool, 5)
    const fault = await strike()
    const during = Array.from({ length: 20 }, () => pool.query(read).catch(() => null))
    await turn(400)
    await fault.heal()
    const readyAtMs = performance.now()
    await until('a read is answered', () => pool.query(read).then(() => true, () => false))
    const freshMs = performance.now() - readyAtMs
    t.ok(freshMs < 5000, `${name}: fresh after ${Math.round(freshMs)} ms`)
    await Promise.all(during)
  }
})

t.test('app.close() with the whole cluster frozen keeps its deadline, whoever is served or waits', async t => {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const app = Fastify()
  await app.register(poolTuning, { connectionString: database.url, environment: {}, size: 2, overflow: 1, minConnections: 2, drainMs: 400 })
  app.get('/', async () => (await app.pg.query('SELECT 1')).rows)
  app.get('/transact', { pg: { transact: true } }, async request => (await request.pg!.query('SELECT 1')).rows)
  await app.listen({ port: 0, host: '127.0.0.1' })
  await warm(app.poolTuning.pool, 2)
  const { port } = app.server.address() as { port: number }
  faults.freeze('cluster')
  const requests = Array.from({ length: 8 }, (_none, index) => new Promise<number>((resolve, reject) => {
    // Without keep-alive, for which Fastify would wait.
    get({ port, path: index % 2 === 0 ? '/' : '/transact', agent: false }, response => { resolve(response.resume().statusCode!) }).once('error', reject)
  }))
  await until('every request is served or waits', () => app.poolTuning.pool.waitingCount >= 6)
  const sinceMs = performance.now()
  await app.close()
  const closedMs = performance.now() - sinceMs
  t.ok(closedMs < 8000, `closed after ${Math.round(closedMs)} ms`)
  t.ok((await Promise.all(requests)).every(status => status >= 500))
  t.match(app.poolTuning.pool.stats(), { total: 0, waiting: 0, opening: 0 })
})

t.test('while only the postmaster is frozen, the connections that there are go on', async t => {
  const { pool, faults } = await setup(t, { size: 2, overflow: 2, timeoutMs: 5000, connectTimeoutMs: 200 })
  await warm(pool, 2)
  const postmaster = faults.freeze('postmaster')
  const reads = await Promise.all(Array.from({ length: 20 }, () => pool.query('SELECT pg_sleep(0.02)').then(() => 'answered', (error: Error) => error.message)))
  t.same(reads.filter(answer => answer !== 'answered'), [])
  await turn(300)
  t.ok(await pool.query(read))
  await postmaster.heal()
})

t.test('a demoted primary is dialled again: the statement is answered by the new one', async t => {
  const { pool, faults, proxy, url } = await setup(t, { size: 3, overflow: 0, tries: 2 })
  const next = await testServer(t)
  const upsert: TunedQueryConfig = { text: 'INSERT INTO users VALUES (1) ON CONFLICT DO NOTHING', idempotent: true }
  await faults.sql('CREATE TABLE users (id int PRIMARY KEY)')
  const promoted = new URL(await next.createDatabase(new URL(url).pathname.slice(1)))
  const there = new pg.Client({ connectionString: promoted.href })
  await there.connect()
  t.teardown(() => there.end())
  // The new primary lets the same user in.
  await there.query(`ALTER ROLE postgres PASSWORD ${pg.escapeLiteral(new URL(url).password)}`)
  await there.query('CREATE TABLE users (id int PRIMARY KEY)')

  await warm(pool, 3)
  await faults.readOnly('cluster')
  proxy.retarget(next.port)
  // Sent twice at most: with another old connection the second would fail, too.
  await pool.query(upsert)
  t.same((await there.query('SELECT id FROM users')).rows, [{ id: 1 }])
  const ports = await Promise.all(Array.from({ length: 3 }, async () => (await pool.query<{ port: number }>('SELECT inet_server_port() AS port, pg_sleep(0.05)')).rows[0]!.port))
  t.same(ports, [next.port, next.port, next.port], 'one refusal told of all connections')
  await t.rejects(pool.query('BEGIN READ ONLY; INSERT INTO users VALUES (2)'), { code: '25006' }, 'a statement that was not called idempotent is not sent again')
})

t.test('a pool lives with the connections that a full server leaves it, and grows when there is room', async t => {
  let limited = ''
  const { pool, faults } = await setup(t, { size: 6, overflow: 0 }, async faults => { limited = await faults.createRole(2); return limited })
  const all = (): Promise<unknown> => Promise.all(Array.from({ length: 12 }, () => pool.query('SELECT pg_sleep(0.02)')))
  await all()
  t.match(pool.stats(), { timeouts: 0 })
  t.ok(pool.totalCount <= 2)
  t.match(pool.lastOpenError, { code: '53300' })
  await faults.limitRole(limited, 10)
  await until('the pool has grown', async () => { await all(); return pool.totalCount > 2 })
})

t.test('what the server refuses keeps its connection, whatever the class, and nothing but idempotence sends it again', async t => {
  const { pool, faults } = await setup(t, { size: 1, overflow: 0 })
  await faults.sql('CREATE TABLE written (id int)')
  const pid = await pidOf(pool)
  for (const sqlState of ['23505', '40001', '40P01', '53100', '22P02', 'P0001', '55P03']) {
    const trouble = await faults.troubleWrites('written', { sqlState })
    await t.rejects(pool.query({ text: 'INSERT INTO written VALUES (1)', idempotent: true } as TunedQueryConfig), { code: sqlState })
    t.equal(await trouble.struck(), 1, sqlState)
    await trouble.heal()
  }
  const lock = await faults.lockTable('written')
  await t.rejects(pool.query("SET lock_timeout = '20ms'; INSERT INTO written VALUES (1)"), { code: '55P03' })
  await lock.heal()
  t.equal(await pidOf(pool), pid)
})

t.test('a statement that outlives its own deadline costs its connection, not those that are idle', async t => {
  const { pool, faults } = await setup(t, { size: 3, overflow: 0 })
  await warm(pool, 3)
  const before = (await faults.backends()).map(({ pid }) => pid)
  await t.rejects(pool.query({ text: 'SELECT pg_sleep(2)', deadline: { atMs: performance.now() + 60, signal: new AbortController().signal } } as TunedQueryConfig), { message: 'Query read timeout' })
  await turn(50)
  t.equal(pool.totalCount, 2)
  t.ok(before.includes(await pidOf(pool)), 'one of those is lent again')
  t.equal(pool.stats().failedPings, 0)
})

t.test('a connection that breaks while it is opened, by a reset or by the hook, is tried again, and says that nothing was sent', async t => {
  let opened = 0
  const dies = async (client: pg.Client): Promise<void> => {
    if (opened++ > 0) return
    await client.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => {})
    await turn(20)
  }
  const { pool, proxy } = await setup(t, { minConnections: 0, onConnect: dies, size: 1, overflow: 0, tries: 2 })
  t.ok(await pool.query('INSERT INTO pg_temp.x SELECT 1').catch((error: Error & { code: string }) => error.code === '42P01'))
  proxy.mode = 'reset'
  proxy.reset()
  await until('the connection is gone', () => pool.totalCount === 0)
  await t.rejects(pool.query('SELECT 1'), { code: 'ECONNRESET', databaseFailure: 'unsent' })
  proxy.mode = 'black hole'
  const sinceMs = performance.now()
  await t.rejects(pool.query({ text: 'SELECT 1', deadline: { atMs: performance.now() + 150, signal: new AbortController().signal } } as TunedQueryConfig), { code: 'ORI_POOL_CHECKOUT_TIMEOUT' })
  t.ok(performance.now() - sinceMs < 10_000, 'and not when the server answers')
})

t.test('end() while a connection is being opened does not wait for it, and refuses who waits', async t => {
  const { pool, proxy } = await setup(t, { minConnections: 0, size: 1, overflow: 0 })
  await pool.query('SELECT 1')
  proxy.reset()
  await until('the connection is gone', () => pool.totalCount === 0)
  proxy.mode = 'stall'
  const waiting = t.rejects(pool.query('SELECT 1'), { code: 'ORI_POOL_CLOSED' })
  await until('one is being opened', () => pool.stats().opening === 1)
  const sinceMs = performance.now()
  await pool.end()
  await waiting
  t.ok(performance.now() - sinceMs < 10_000)
  t.match(pool.stats(), { total: 0, opening: 0, waiting: 0, openFailures: 0 })
})

t.test('a connection that comes back in the middle of something is finished, reset or cut before anybody else has it', async t => {
  const { pool, faults } = await setup(t, { size: 1, overflow: 0 })
  await faults.sql('CREATE TABLE copied (id int)')
  const pid = await pidOf(pool)

  const queueing = await pool.connect()
  const late = [queueing.query('BEGIN'), queueing.query('INSERT INTO copied VALUES (1)'), queueing.query('SELECT pg_sleep(0.05)')]
  queueing.release()
  t.same((await pool.query('SELECT * FROM copied')).rows, [], 'statements behind the release are over, and rolled back')
  await Promise.all(late)

  const forgetful = await pool.connect()
  forgetful.release()
  await forgetful.query('BEGIN; INSERT INTO copied VALUES (2)')
  t.same((await pool.query('SELECT *, now() = statement_timestamp() AS fresh FROM copied')).rows, [], 'so are those of somebody who goes on after the release')
  t.equal(await pidOf(pool), pid)

  const copying = await pool.connect()
  const started = new Promise<void>(resolve => {
    const query = Object.assign(new pg.Query('COPY copied FROM STDIN') as pg.Query & { handleCopyInResponse: () => void }, { handleCopyInResponse: () => { resolve() } })
    query.on('error', () => {})
    copying.query(query)
  })
  await started
  copying.release()
  t.not(await pidOf(pool), pid, 'a COPY that nobody ends is cut')
  t.throws(() => { copying.release() }, /already been released/)
  t.match(pool.stats(), { total: 1, lent: 0, waiting: 0 })
})

t.test('a pipelined connection is lent again only when all of its answers are there', async t => {
  const { pool } = await setup(t, { size: 1, overflow: 0, client: { pipeline: true } as pg.ClientConfig })
  const client = await pool.connect()
  // Given back the moment that the first answer is there, with two on their way.
  const first = new Promise<void>((resolve, reject) => {
    client.query('SELECT 1', error => {
      client.release()
      if (error === null || error === undefined) resolve()
      else reject(error)
    })
  })
  const answers = [client.query('BEGIN'), client.query('SELECT 1 AS one, pg_sleep(0.05)::text AS slept')]
  const next = pool.query('SELECT pg_current_xact_id_if_assigned() AS xid, now() = statement_timestamp() AS alone')
  await first
  t.same((await next).rows, [{ xid: null, alone: true }])
  t.same((await answers[1])!.rows, [{ one: 1, slept: '' }])
})

t.test('LISTEN does not outlive its borrower where connections are discarded', async t => {
  const { pool } = await setup(t, { size: 1, overflow: 0, resetOnReturn: 'discard' })
  const client = await pool.connect()
  await client.query('LISTEN news')
  client.release()
  t.same((await pool.query('SELECT pg_listening_channels()')).rows, [])
})

t.test('a hook that leaves a transaction open does not pass it on', async t => {
  const { pool } = await setup(t, { size: 1, overflow: 0, minConnections: 0, onConnect: async client => { await client.query('BEGIN') } })
  t.same((await pool.query('SELECT now() = statement_timestamp() AS alone')).rows, [{ alone: true }])
})

t.test('what callbacks, listeners and query objects of the app throw leaves the pool whole', async t => {
  const { url } = await testDatabase(t)
  const child = spawn(process.execPath, ['--input-type=module', '-e', `
    import pg from 'pg'
    import { DatabaseConnectionOptimizer } from '@orientor/pool-tuning/core'
    const thrown = []
    process.on('uncaughtException', error => { thrown.push(error.message) })
    process.on('unhandledRejection', error => { thrown.push('UNHANDLED ' + error.message) })
    const optimizer = new DatabaseConnectionOptimizer({ connectionString: ${JSON.stringify(url)}, environment: {}, size: 1, overflow: 0, minConnections: 0, timeoutMs: 2000 })
    const { pool } = optimizer
    for (const event of ['connect', 'acquire', 'release', 'remove', 'error']) pool.once(event, () => { throw new Error(event) })
    await pool.query('SELECT 1')
    pool.query('SELECT 1', () => { throw new Error('query') })
    pool.query('nonsense', () => { throw new Error('failed query') })
    pool.connect((error, client, release) => { release(); throw new Error('connecting') })
    await pool.query('SELECT 1')
    pool.query(new pg.Query('SELECT 1', () => { throw new Error('submitted') }))
    pool.query({ submit () { throw new Error('never seen') }, handleError () {} }, error => { throw new Error('refused: ' + error.message) })
    await pool.query('SELECT 1')
    await pool.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => {})
    const client = await pool.connect()
    await new Promise(resolve => { client.once('end', resolve); client.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => {}) })
    const { total, lent, waiting } = pool.stats()
    await pool.query('SELECT 1')
    pool.end(() => { throw new Error('ending') })
    await pool.end()
    await new Promise(resolve => { setTimeout(resolve, 20) })
    console.log(JSON.stringify({ thrown: thrown.sort(), total, lent, waiting }))
  `], { cwd: fileURLToPath(new URL('..', import.meta.url)), stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  let toldAtMs = 0
  for await (const chunk of child.stdout) {
    output += String(chunk)
    toldAtMs = performance.now()
  }
  t.ok(performance.now() - toldAtMs < 5000, 'and nothing keeps the process alive')
  t.same(JSON.parse(output), {
    thrown: ['acquire', 'connect', 'connecting', 'ending', 'error', 'failed query', 'query', 'refused: never seen', 'release', 'remove', 'submitted'],
    total: 0,
    lent: 0,
    waiting: 0
  })
})
