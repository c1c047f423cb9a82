import { clerkSimulator, type ClerkSimulatorApp } from '@orientor/clerk-simulator'
import { createIdentity, sessionHub, sessionKey, type Component, type SessionHub } from '@orientor/session-contract'
import { testDatabase, testServer } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import smartSyncDefault, { errors, smartSync, type PoolLike, type SmartSync, type SmartSyncOptions } from '../src/index.js'
import { migrate } from '../src/migrate.js'

const issuer = 'https://idp.example'

function poolOn (t: Test, connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 10 })
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  return pool
}

/** An app whose gateway names the user in a header, with smart sync as its source. */
async function appWith (t: Test, options: SmartSyncOptions | undefined, before: (app: FastifyInstance) => void = () => {}): Promise<{ app: FastifyInstance, hub: SessionHub, get: (subject?: string, claims?: object) => Promise<LightMyRequestResponse> }> {
  const app = Fastify()
  const hub = sessionHub(app)
  hub.fill('identify', 'gateway', request => {
    const { 'x-user': subject, 'x-claims': claims } = request.headers
    return typeof subject === 'string' ? createIdentity({ issuer, subject, claims: JSON.parse(String(claims ?? '{}')) }) : { kind: 'anonymous' }
  })
  before(app)
  app.register(smartSync, options ?? {})
  app.get('/me', { config: { session: { required: true } } }, async request => ({ user: request.sessionUser, outcome: request.sessionOutcome }))
  t.teardown(async () => { await app.close() })
  const get = async (subject?: string, claims = {}): Promise<LightMyRequestResponse> => await app.inject({ url: '/me', headers: subject === undefined ? {} : { 'x-user': subject, 'x-claims': JSON.stringify(claims) } })
  return { app, hub, get }
}

function componentOf (hub: SessionHub): Component {
  return hub.components.find(({ name }) => name === 'databaseSync')!
}

async function simulated (t: Test): Promise<ClerkSimulatorApp> {
  const clerk = await clerkSimulator()
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => { await clerk.close() })
  return clerk
}

t.test('the plugin', t => {
  t.test('is the same by name and by default, and is typed', async t => {
    t.equal(smartSyncDefault, smartSync)
    expectTypeOf<pg.Pool>().toExtend<PoolLike>()
    expectTypeOf<FastifyInstance['smartSync']>().toEqualTypeOf<SmartSync>()
    // @ts-expect-error -- a duration is a number
    const wrong: SmartSyncOptions = { forceSyncAfterMs: '1h' }
    t.ok(wrong)
  })

  t.test('migrates, makes a row at the first request, and takes it from then on', async t => {
    const { url } = await testDatabase(t)
    const pool = poolOn(t, url)
    const { app, hub, get } = await appWith(t, { pool })
    const first = await get('user_a', { email: 'a@example.com', given_name: 'Ada' })
    t.equal(first.statusCode, 200)
    t.match(first.json(), { user: { userId: '1', email: 'a@example.com', firstName: 'Ada', isActive: true }, outcome: { kind: 'user', from: 'source', dbSynced: true } })
    await app.smartSync.migrated
    t.match((await get('user_a')).json(), { user: { userId: '1', firstName: 'Ada' } })
    t.equal((await get()).statusCode, 401)
    t.match(app.smartSync.stats(), { attempts: 2, performed: 1, skipped: 1, errors: 0, profileCreates: 1 })
    t.match(await componentOf(hub).health(), { status: 'healthy', checkedAtMs: Number })
    t.match(componentOf(hub).stats(), { attempts: 2, profileCreates: 1 })
    t.equal(componentOf(hub).instruments.length, 4)
  })

  t.test('50 concurrent first requests of one user on three servers: one row, 50 times 200 with one id', async t => {
    const { url } = await testDatabase(t)
    const pool = poolOn(t, url)
    const clerk = await simulated(t)
    const { id } = await clerk.simulator.createUser({ firstName: 'Ada', email: 'ada@example.com' })
    const { apiUrl, secretKey } = clerk.simulator
    const apps = await Promise.all([1, 2, 3].map(async () => await appWith(t, { pool: poolOn(t, url), clerk: { apiUrl, secretKey } })))
    const replies = await Promise.all(Array.from({ length: 50 }, async (_, n) => await apps[n % 3]!.get(id)))
    t.ok(replies.every(({ statusCode }) => statusCode === 200))
    t.same([...new Set(replies.map(reply => reply.json().user.userId))], ['1'])
    t.match((await pool.query('SELECT email, first_name FROM users')).rows, [{ email: 'ada@example.com', first_name: 'Ada' }])
  })

  t.test('follows Clerk: unknown and banned users do not pass, a change comes with the hint', async t => {
    const { url } = await testDatabase(t)
    const clerk = await simulated(t)
    const { apiUrl, secretKey } = clerk.simulator
    const { app, get } = await appWith(t, { pool: poolOn(t, url), clerk: { apiUrl, secretKey } })
    const user = await clerk.simulator.createUser({ firstName: 'Ada', updatedAt: Date.now() - 60_000 })
    t.equal((await get('user_nobody')).statusCode, 401)
    t.equal((await get(user.id)).json().user.firstName, 'Ada')
    const changed = await clerk.simulator.updateUser(user.id, { firstName: 'Augusta' })
    t.equal((await get(user.id)).json().user.firstName, 'Ada')
    t.equal((await get(user.id, { updated_at: Math.floor(changed.updated_at / 1000) })).json().user.firstName, 'Augusta')
    await clerk.simulator.banUser(user.id)
    t.match(await app.smartSync.sync(sessionKey(issuer, user.id), { force: true }), { kind: 'inactive' })
    t.equal((await get(user.id)).statusCode, 403)
    await clerk.simulator.unbanUser(user.id)
    t.match(await app.smartSync.sync(sessionKey(issuer, user.id), { force: true }), { kind: 'active', sync: 'performed' })
    t.match(await app.smartSync.sync(sessionKey(issuer, 'user_nobody')), { kind: 'unknown' })
  })

  t.test('goes on without Clerk: known users, and new ones with a provisional row', async t => {
    const { url } = await testDatabase(t)
    const { hub, get } = await appWith(t, { pool: poolOn(t, url), clerk: { apiUrl: 'http://127.0.0.1:1', secretKey: 'sk_1' } })
    t.match((await get('user_a', { email: 'a@example.com' })).json(), { user: { email: 'a@example.com' }, outcome: { dbSynced: false, lastSyncedAtMs: null } })
    t.match((await get('user_a')).json(), { user: { email: 'a@example.com' }, outcome: { dbSynced: false } })
    t.match(await componentOf(hub).health(), { status: 'degraded', reason: /identity provider/ })
  })

  t.test('takes the pool that @fastify/postgres decorates, whichever is registered first', async t => {
    const { url } = await testDatabase(t)
    const { app, get } = await appWith(t, undefined)
    app.register(Object.assign(async (scope: FastifyInstance) => { scope.decorate('pg' as never, { pool: poolOn(t, url) } as never) }, { [Symbol.for('skip-override')]: true }))
    t.equal((await get('user_a')).statusCode, 200)
  })

  t.test('refuses to start without a pool, and says how to give one', async t => {
    const { app } = await appWith(t, {})
    await t.rejects(async () => { await app.ready() }, { code: 'ORI_SYNC_NO_POOL', message: /app\.register\(smartSync, \{ pool: new pg\.Pool/ })
  })

  t.test('refuses wrong options at registration', async t => {
    const app = Fastify()
    await t.rejects(async () => { await app.register(smartSync, { forceSync: 1 } as never) }, { code: 'ORI_CONTRACT_INVALID_OPTION' })
  })

  t.test('refuses to start on a table that it cannot complete', async t => {
    const { url } = await testDatabase(t)
    const pool = poolOn(t, url)
    await pool.query('CREATE TABLE users (email text)')
    const { app } = await appWith(t, { pool })
    await t.rejects(async () => { await app.ready() }, { code: 'ORI_SYNC_MIGRATION_FAILED' })
  })

  t.test('with migrate: false leaves the database alone, and says when tables are missing', async t => {
    const { url } = await testDatabase(t)
    const pool = poolOn(t, url)
    const { app, get, hub } = await appWith(t, { pool, migrate: false })
    await app.ready()
    await app.smartSync.migrated
    t.equal((await pool.query("SELECT count(*)::int AS n FROM pg_class WHERE relname = 'users'")).rows[0].n, 0)
    t.equal((await get('user_a')).statusCode, 503)
    t.match(await componentOf(hub).health(), { status: 'unhealthy', reason: 'PostgreSQL refuses: a table is not there, or not on the search path (42P01)' })
    await t.rejects(app.smartSync.sync(sessionKey(issuer, 'user_a')), { code: 'ORI_SOURCE_UNAVAILABLE' })
    await migrate({ pool })
    t.equal((await get('user_a')).statusCode, 200)
    t.match(await componentOf(hub).health(), { status: 'healthy' })
    await pool.query('ALTER TABLE user_tombstones RENAME TO gone')
    t.equal((await get('user_b')).statusCode, 503)
    t.match(await componentOf(hub).health(), { status: 'degraded', reason: /^PostgreSQL refuses to write users: .*42P01/ })
  })

  t.test('comes up without its database, says so, and recovers by itself', async t => {
    const server = await testServer(t)
    const url = await server.createDatabase()
    await server.kill('SIGKILL')
    const { app, hub, get } = await appWith(t, { pool: poolOn(t, url) })
    await app.listen({ port: 0, host: '127.0.0.1' })
    t.match(await componentOf(hub).health(), { status: 'unhealthy', reason: 'The tables are not in place yet' })
    const refused = await get('user_a')
    t.equal(refused.statusCode, 503)
    t.ok(Number(refused.headers['retry-after']) >= 1)
    await server.start()
    await app.smartSync.migrated
    t.equal((await get('user_a')).statusCode, 200)
    t.match(await componentOf(hub).health(), { status: 'healthy' })
    await server.kill('SIGKILL')
    t.equal((await get('user_a')).statusCode, 503)
    t.match(await componentOf(hub).health(), { status: 'unhealthy' })
    await server.start()
    t.equal((await get('user_a')).statusCode, 200)
  })

  t.test('starts on a server that is read-only, and serves the users it knows', async t => {
    const server = await testServer(t)
    const url = await server.createDatabase()
    const before = await appWith(t, { pool: poolOn(t, url) })
    t.equal((await before.get('user_a', { given_name: 'Ada' })).statusCode, 200)
    await before.app.close()
    const admin = poolOn(t, url)
    await admin.query('ALTER SYSTEM SET default_transaction_read_only = on')
    await server.kill('SIGINT')
    await server.start()
    const { get, hub } = await appWith(t, { pool: poolOn(t, url), forceSyncAfterMs: 1 })
    t.match((await get('user_a', { given_name: 'Augusta', updated_at: Date.now() })).json(), { user: { firstName: 'Ada' }, outcome: { dbSynced: false } })
    t.equal((await get('user_b')).statusCode, 503, 'whose row cannot be made')
    t.match(await componentOf(hub).health(), { status: 'healthy' })
  })

  t.test('makes its tables for whoever needs them before its own turn', async t => {
    const { url } = await testDatabase(t)
    const pool = poolOn(t, url)
    let tables: unknown[] = []
    const { app, hub } = await appWith(t, { pool, harmlessTriggers: ['set_updated_at'] }, app => {
      app.addHook('onReady', async () => {
        await hub.slots.source!.ready!()
        tables = (await pool.query("SELECT FROM pg_class WHERE relname = 'users'")).rows
      })
    })
    await app.ready()
    t.equal(tables.length, 1)
    t.match(hub.slots.source!.watches, [{ table: 'users', exactRevision: true, harmlessTriggers: ['zz_users_revision', 'set_updated_at'] }])
  })

  t.test('closes while it is still waiting for its database', async t => {
    const { app } = await appWith(t, { pool: poolOn(t, 'postgres://127.0.0.1:1/none') })
    await app.ready()
    const { migrated } = app.smartSync
    await app.close()
    await t.rejects(migrated, errors.Closed)
  })

  t.test('is unhealthy when the database refuses statements', async t => {
    const refusing = { query: async () => { throw Object.assign(new Error('odd'), { code: '42601' }) }, connect: async () => { throw new Error('not used') } }
    const { app, hub } = await appWith(t, { pool: refusing, migrate: false })
    await app.ready()
    t.match(await componentOf(hub).health(), { status: 'unhealthy', reason: 'The database refuses statements' })
  })
  t.end()
})
