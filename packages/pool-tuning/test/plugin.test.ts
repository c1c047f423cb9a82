import { connect } from 'node:net'
import { Readable } from 'node:stream'
import Fastify, { type FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { testDatabase, testServer, until } from '@orientor/test-kit'
import { poolTuning, type PoolTuningOptions } from '../src/index.js'

async function setup (t: Test, options: PoolTuningOptions = {}, prepare: (app: FastifyInstance) => void = () => {}): Promise<{ app: FastifyInstance, url: string, terminateAll: () => Promise<void> }> {
  const { url } = await testDatabase(t)
  const admin = new pg.Client({ connectionString: url, application_name: 'admin' })
  await admin.connect()
  const app = Fastify({ logger: false })
  t.teardown(async () => { await app.close(); await admin.end() })
  await app.register(poolTuning, { connectionString: url, environment: {}, ...options })
  prepare(app)
  await app.ready()
  const terminateAll = async (): Promise<void> => {
    await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')
  }
  return { app, url, terminateAll }
}

const turn = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })

t.test('fastify.pg keeps the face of @fastify/postgres', async t => {
  const { app } = await setup(t)
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  const client = await app.pg.connect()
  t.same((await client.query('SELECT $1::int AS two', [2])).rows, [{ two: 2 }])
  client.release()
  t.throws(() => { client.release() }, /already been released/, 'a second release is refused')
  const viaCallback = await new Promise((resolve, reject) => {
    app.pg.query('SELECT 3 AS three', (error: Error | null, result: { rows: unknown[] }) => { if (error) reject(error); else resolve(result.rows) })
  })
  t.same(viaCallback, [{ three: 3 }])
  const connected = await new Promise((resolve, reject) => {
    app.pg.connect((error, client, release) => {
      if (error !== undefined) { reject(error); return }
      client!.query('SELECT 4 AS four').then(({ rows }) => { release(); resolve(rows) }, reject)
    })
  })
  t.same(connected, [{ four: 4 }])
  const submitted = await new Promise((resolve, reject) => {
    app.pg.query(new pg.Query('SELECT 5 AS five', (error: Error | undefined, result: { rows: unknown[] }) => { if (error) reject(error); else resolve(result.rows) }))
  })
  t.same(submitted, [{ five: 5 }])
  t.equal(app.pg.pool.totalCount, app.pg.pool.idleCount, 'everything came back')
  t.equal(app.pg.pool.waitingCount, 0)
})

t.test('session settings are in force, and the values of the app win', async t => {
  const { app } = await setup(t, { client: { lock_timeout: 1234, options: '-c random_page_cost=3' } })
  const { rows } = await app.pg.query("SELECT current_setting('statement_timeout') s, current_setting('lock_timeout') l, current_setting('idle_in_transaction_session_timeout') i, current_setting('effective_cache_size') e, current_setting('random_page_cost') r")
  t.same(rows, [{ s: '30s', l: '1234ms', i: '1min', e: '4GB', r: '3' }])
  const explained = app.poolTuning.explain()
  t.equal(explained.pooler, false)
  t.equal(explained.settings.find(({ setting }) => setting === 'lock_timeout')?.delivery, 'set by the app')
  t.equal(explained.settings.find(({ setting }) => setting === 'statement_timeout')?.delivery, 'startup')
})

t.test('terminated backends cost nothing that is marked idempotent, and never the process', async t => {
  const { app, terminateAll } = await setup(t, { size: 4, overflow: 0 })
  for (let round = 0; round < 5; round++) {
    const reads = Array.from({ length: 8 }, () => app.pg.query({ text: 'SELECT pg_sleep(0.02)', idempotent: true } as { text: string }))
    await turn(5)
    await terminateAll()
    await Promise.all(reads)
  }
  await terminateAll()
  await turn(20)
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }])
})

t.test('a transaction whose backend is terminated rejects, and the pool goes on', async t => {
  const { app, terminateAll } = await setup(t, { size: 1, overflow: 0 })
  await t.rejects(app.pg.transact(async client => {
    await client.query('SELECT 1')
    await terminateAll()
    await turn(20)
    await client.query('SELECT 2')
  }))
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }])
})

t.test('transact rolls back a synchronous throw, a caught failure and a failed COMMIT, and leaks nothing', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0, timeoutMs: 1000 })
  await app.pg.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED)')
  await t.rejects(app.pg.transact(() => { throw new Error('synchronous') }), { message: 'synchronous' })
  await t.rejects(app.pg.transact(async client => {
    await client.query('INSERT INTO a VALUES (1)')
    await client.query('nonsense').catch(() => {})
  }), { code: 'ORI_POOL_ROLLED_BACK' })
  await t.rejects(app.pg.transact(async client => { await client.query('INSERT INTO b VALUES (7)') }), { code: '23503' })
  t.equal(await app.pg.transact(async client => (await client.query('SELECT count(*)::int AS n FROM a')).rows[0].n), 0)
  await new Promise<void>((resolve, reject) => {
    app.pg.transact(async client => client.query('SELECT 1'), error => { if (error) reject(error); else resolve() })
  })
  t.match(await new Promise(resolve => { app.pg.transact(async client => client.query('nonsense'), resolve) }), { code: '42601' })
  t.match(app.pg.pool, { totalCount: 1, idleCount: 1, waitingCount: 0 })
})

t.test('idle_in_transaction_session_timeout ends the transaction, not the process', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0, settings: { idle_in_transaction_session_timeout: 100 } })
  await t.rejects(app.pg.transact(async client => {
    await client.query('SELECT 1')
    await turn(250)
    await client.query('SELECT 2')
  }))
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }])
})

t.test('a route with pg.transact commits, rolls back, and survives hijack and a failed COMMIT', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0, timeoutMs: 1000 }, app => {
    app.post('/ok', { pg: { transact: true } }, async request => { await request.pg!.query('INSERT INTO a VALUES (1)'); return { ok: true } })
    app.post('/thrown', { pg: { transact: true } }, async request => { await request.pg!.query('INSERT INTO a VALUES (2)'); throw new Error('no') })
    app.post('/commit', { pg: { transact: true } }, async request => { await request.pg!.query('INSERT INTO b VALUES (7)'); return { ok: true } })
    app.post('/begin', { pg: { transact: true }, preHandler: [async () => { throw new Error('before BEGIN') }], onSend: async (_request, _reply, payload) => payload }, async () => ({}))
    app.post('/hijack', { pg: { transact: true } }, async (request, reply) => {
      await request.pg!.query('INSERT INTO a VALUES (3)')
      reply.hijack()
      reply.raw.end('mine')
    })
  })
  await app.pg.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED)')
  t.equal((await app.inject({ method: 'POST', url: '/ok' })).statusCode, 200)
  t.equal((await app.inject({ method: 'POST', url: '/thrown' })).statusCode, 500)
  t.equal((await app.inject({ method: 'POST', url: '/commit' })).statusCode, 500)
  t.equal((await app.inject({ method: 'POST', url: '/begin' })).statusCode, 500)
  t.equal((await app.inject({ method: 'POST', url: '/hijack' })).body, 'mine')
  t.same((await app.pg.query('SELECT id FROM a')).rows, [{ id: 1 }])
  t.match(app.pg.pool, { totalCount: 1, waitingCount: 0 })
})

t.test('a connection comes back clean, and a unique violation keeps it', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0 })
  const pid = async (): Promise<number> => (await app.pg.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
  const first = await pid()
  await app.pg.query('CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)')
  for (let round = 0; round < 3; round++) await t.rejects(app.pg.query('INSERT INTO a VALUES (1)'), { code: '23505' })
  const client = await app.pg.connect()
  await client.query('BEGIN; INSERT INTO a VALUES (2)')
  client.release()
  t.same((await app.pg.query('SELECT id FROM a')).rows, [{ id: 1 }], 'the open transaction was rolled back')
  t.equal(await pid(), first)
})

t.test('an unreachable database fails neither registration nor ready, and is told by health', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(poolTuning, { connectionString: 'postgres://nobody:secret@127.0.0.1:1/none', environment: {} })
  await app.ready()
  t.match(await app.poolTuning.health(), { status: 'unhealthy' })
  await t.rejects(app.pg.query('SELECT 1'), { code: 'ECONNREFUSED' })
  t.notMatch(JSON.stringify(app.poolTuning.explain()), 'secret')
})

t.test('failFast refuses an unreachable database', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(poolTuning, { connectionString: 'postgres://nobody:secret@127.0.0.1:1/none', failFast: true, environment: {} })
  await t.rejects(async () => { await app.ready() }, { code: 'ORI_POOL_UNREACHABLE' })
})

t.test('a malformed connection string is refused without showing it', async t => {
  for (const connectionString of ['mysql://u:hunter2@h/d', 'postgres://u:hun#ter2@h/d', 'postgres://u:hunter2@h:99999/d', 'hunter2']) {
    const error = await Fastify().register(poolTuning, { connectionString }).ready().then(() => null, (error: Error) => error)
    t.match(error, { code: 'ORI_POOL_INVALID_CONNECTION_STRING' })
    t.notMatch(`${error?.message} ${error?.stack}`, /hun#?ter2/)
  }
})

t.test('a pool larger than the server is refused at ready', async t => {
  const { url } = await testDatabase(t)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(poolTuning, { connectionString: url, size: 900, environment: {} })
  await t.rejects(async () => { await app.ready() }, { code: 'ORI_POOL_LARGER_THAN_SERVER' })
})

t.test('the component answers while every connection is lent', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0 })
  const client = await app.pg.connect()
  const waiting = app.pg.query('SELECT 1')
  await turn(5)
  t.match(await app.poolTuning.component.health(), { status: 'degraded' })
  client.release()
  await waiting
  t.match(await app.poolTuning.component.health(), { status: 'healthy' })
  t.match(app.poolTuning.component.stats(), { total: 1, active: 0, size: 1, maxOverflow: 0, waiting: 0 })
  for (const instrument of app.poolTuning.component.instruments) t.ok(instrument.read().every(({ value }) => typeof value === 'number'))
})

t.test('the pool has one connection beside it, for what must not wait behind the app, and closes it', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0 })
  const reserved = app.poolTuning.pool.reserved!
  const client = await app.pg.connect()
  t.same((await reserved.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  t.equal(reserved.limit, 1)
  t.equal(reserved.reserved, undefined, 'and none beside that')
  client.release()
  await app.close()
  await t.rejects(reserved.query('SELECT 1'), { code: 'ORI_POOL_CLOSED' })
})

t.test('app.close() with a frozen server ends within its deadline', async t => {
  const server = await testServer(t)
  const app = Fastify()
  await app.register(poolTuning, { connectionString: server.url(), drainMs: 300, environment: {} })
  await app.ready()
  const { rows: [{ pid }] } = await app.pg.query('SELECT pg_backend_pid() AS pid')
  process.kill(pid, 'SIGSTOP')
  t.teardown(() => { try { process.kill(pid, 'SIGCONT') } catch {} })
  const hung = app.pg.query('SELECT 1').then(() => 'answered', () => 'failed')
  await turn(20)
  const before = Date.now()
  await app.close()
  t.ok(Date.now() - before < 10_000, `closed within ${Date.now() - before} ms`)
  t.equal(await hung, 'failed')
})

t.test('a query cut by its own time limit takes its transaction with it at once', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0, client: { query_timeout: 100 } })
  const before = Date.now()
  await t.rejects(app.pg.transact(async client => client.query('SELECT pg_sleep(20)')), { message: 'Query read timeout' })
  t.ok(Date.now() - before < 10_000)
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }])
})

t.test('a component that lent nothing yet says so', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(poolTuning, { connectionString: 'postgres://nobody@127.0.0.1:1/none', minConnections: 0 })
  t.match(app.poolTuning.component.stats(), { active: 0, checkouts: 0, immediateCheckouts: 0 })
  t.equal(app.poolTuning.explain().values.find(({ option }) => option === 'minConnections')?.value, 0)
})

t.test('a caller who goes away leaves the handler its own transaction, and nobody else a part of it', async t => {
  let gone = (): void => {}
  let isHalfway = false
  const hasGone = new Promise<void>(resolve => { gone = resolve })
  const { app } = await setup(t, { size: 1, overflow: 0 }, app => {
    app.post('/move', { pg: { transact: true } }, async request => {
      await request.pg!.query('UPDATE accounts SET amount = amount - 100 WHERE name = $1', ['a'])
      request.raw.once('close', () => { gone() })
      isHalfway = true
      await hasGone
      await turn(50)
      await request.pg!.query('UPDATE accounts SET amount = amount + 100 WHERE name = $1', ['b'])
      return { moved: true }
    })
  })
  await app.pg.query("CREATE TABLE accounts AS SELECT * FROM (VALUES ('a', 100), ('b', 0)) AS account (name, amount)")
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect((app.server.address() as { port: number }).port, '127.0.0.1')
  socket.write('POST /move HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n')
  await until('the handler is halfway', () => isHalfway)
  socket.destroy()
  await hasGone
  await until('the handler is done', () => app.pg.pool.idleCount === app.pg.pool.totalCount)
  const { rows } = await app.pg.query('SELECT name, amount FROM accounts ORDER BY name')
  t.same(rows, [{ name: 'a', amount: 0 }, { name: 'b', amount: 100 }])
})

/** A stream of rows, as pg-query-stream makes one. */
class Rows extends Readable {
  readonly #query: pg.Query & Record<'submit' | 'handleRowDescription' | 'handleCommandComplete' | 'handleReadyForQuery' | 'handleError', (...input: unknown[]) => unknown>

  constructor (text: string) {
    super({ objectMode: true })
    this.#query = new pg.Query({ text }, ((error: Error | null) => { if (error) this.destroy(error) }) as never) as never
  }

  override _read (): void {}
  submit (connection: unknown): unknown { return this.#query.submit(connection) }
  handleRowDescription (message: unknown): void { this.#query.handleRowDescription(message) }
  handleDataRow (): void { if (!this.destroyed) this.push('row') }
  handleCommandComplete (message: unknown, connection: unknown): void { this.#query.handleCommandComplete(message, connection) }
  handleReadyForQuery (connection: unknown): void {
    this.#query.handleReadyForQuery(connection)
    if (!this.destroyed) this.push(null)
  }

  handleError (error: unknown, connection: unknown): void { this.#query.handleError(error, connection) }
}

t.test('a stream that fails is told so once, and one that its reader destroys gives its connection back', async t => {
  const { app } = await setup(t, { size: 1, overflow: 0, timeoutMs: 2000 })
  const submit = (stream: Rows): Rows => {
    app.poolTuning.pool.query(stream as never)
    return stream
  }
  const failing = submit(new Rows('SELECT 1 / 0'))
  t.match(await new Promise(resolve => { failing.once('error', resolve) }), { code: '22012' })
  t.same((await app.pg.query('SELECT 1 AS one')).rows, [{ one: 1 }], 'nothing was thrown at the process')
  const abandoned = submit(new Rows('SELECT * FROM generate_series(1, 5)'))
  abandoned.once('data', () => { abandoned.destroy() })
  await new Promise(resolve => { abandoned.once('close', resolve) })
  t.same((await app.pg.query('SELECT 2 AS two')).rows, [{ two: 2 }])
})
