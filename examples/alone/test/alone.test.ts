import { readdirSync, readFileSync } from 'node:fs'
import { clerkSimulator } from '@orientor/clerk-simulator'
import type { UserRecord } from '@orientor/session-contract'
import { testDatabase } from '@orientor/test-kit'
import pg from 'pg'
import t from 'tap'
import { build as perf } from '../src/perf-routes.js'
import { build as pool } from '../src/pool-tuning.js'
import { build as cache } from '../src/session-cache.js'
import { build as identity } from '../src/session-identity.js'
import { build as contract } from '../src/session-contract.js'
import { build as sync } from '../src/smart-sync.js'

const root = new URL('../../../', import.meta.url)
const bearer = (token: string): { readonly headers: { readonly authorization: string } } => ({ headers: { authorization: `Bearer ${token}` } })

async function provider (t: { teardown (callback: () => unknown): void }) {
  const clerk = await clerkSimulator()
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => clerk.close())
  return clerk.simulator
}

for (const file of readdirSync(new URL('examples/alone/src/', root))) {
  const name = file.replace(/\.ts$/, '')
  t.test(`the README of ${name} shows its example as it is`, async t => {
    const readme = readFileSync(new URL(`packages/${name}/README.md`, root), 'utf8')
    const shown = /```ts\n([\s\S]*?)```/.exec(readme)?.[1]
    t.equal(shown, readFileSync(new URL(`examples/alone/src/${file}`, root), 'utf8'))
  })
}

t.test('session-contract alone joins the app\'s own authentication with its own users', async t => {
  const app = await contract()
  t.teardown(() => app.close())
  t.match((await app.inject({ url: '/me', headers: { 'x-user': 'ada' } })).json(), { userId: '1', firstName: 'Ada' })
  t.equal((await app.inject({ url: '/me', headers: { 'x-user': 'eve' } })).statusCode, 401)
  t.equal((await app.inject('/me')).statusCode, 401)
})

t.test('session-identity alone verifies tokens and has no users', async t => {
  const simulator = await provider(t)
  const app = await identity(simulator.issuer)
  t.teardown(() => app.close())
  const user = await simulator.createUser({ firstName: 'Ada' })
  const token = await simulator.mintToken({ userId: user.id })
  const known = { ...bearer(token), url: '/whoami' }
  t.match((await app.inject(known)).json(), { subject: user.id, sessionId: /^sess_/ })
  t.equal((await app.inject({ ...bearer(`${token}x`), url: '/whoami' })).statusCode, 401)
  t.equal((await app.inject('/whoami')).statusCode, 401)
  t.strictSame((await app.inject('/greeting')).json(), { greeting: 'Hello' })
})

t.test('smart-sync alone makes the table at the start, and a row at the first request', async t => {
  const { url } = await testDatabase(t)
  const pool = new pg.Pool({ connectionString: url })
  const app = await sync(pool)
  t.teardown(async () => {
    await app.close()
    await pool.end()
  })
  const first = { url: '/me', headers: { 'x-user': 'ada', 'x-email': 'ada@example.com' } }
  t.match((await app.inject(first)).json(), { userId: '1', subject: 'ada', email: 'ada@example.com' })
  t.equal((await app.inject(first)).json().userId, '1')
  t.equal((await pool.query('SELECT count(*)::int AS rows FROM users')).rows[0].rows, 1)
  t.equal((await app.inject('/me')).statusCode, 401)
})

t.test('pool-tuning alone serves through fastify.pg, and the process outlives its backends', async t => {
  const { url } = await testDatabase(t)
  const app = await pool(url)
  t.teardown(() => app.close())
  t.match((await app.inject('/now')).json(), { now: String })
  t.strictSame((await app.inject({ method: 'POST', url: '/notes' })).json(), { saved: true })
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')
  t.match((await app.inject('/now')).json(), { now: String })
  t.equal((await admin.query('SELECT count(*)::int AS notes FROM notes')).rows[0].notes, 1)
  await admin.end()
  t.match((await app.inject('/pool')).json(), { preset: 'railway' })
})

t.test('perf-routes alone shows what it measures to whoever has the key', async t => {
  const key = 'a key of thirty-two characters or more'.replaceAll(' ', '-')
  const app = await perf(key)
  t.teardown(() => app.close())
  await app.inject('/greeting')
  t.match((await app.inject({ url: '/database/performance', headers: { 'x-admin-key': key } })).json(), { responses: { count: 1 } })
  t.equal((await app.inject({ url: '/database/health', headers: { 'x-admin-key': key } })).statusCode, 200)
  t.equal((await app.inject('/database/performance')).statusCode, 401)
  t.match((await app.inject('/load')).json(), { responses: 1 })
})

t.test('every package alone decorates request.sessionUser', async t => {
  const { url } = await testDatabase(t)
  const database = new pg.Pool({ connectionString: url })
  t.teardown(() => database.end())
  const nobody = { load: (batch: readonly unknown[]) => batch.map(async (): Promise<UserRecord> => ({ kind: 'unknown', revision: 0 })) }
  const apps = {
    'session-contract': await contract(),
    'session-identity': await identity('https://id.example.com'),
    'session-cache': await cache(nobody),
    'smart-sync': await sync(database),
    'pool-tuning': await pool(url),
    'perf-routes': await perf('k'.repeat(32))
  }
  for (const [name, app] of Object.entries(apps)) {
    app.get('/seen', async request => ({ user: request.sessionUser, identity: request.identity }))
    t.strictSame((await app.inject('/seen')).json(), { user: null, identity: null }, name)
    await app.close()
  }
})

t.test('session-cache alone asks a source once, and again when told', async t => {
  let loads = 0
  const user = { userId: '1', issuer: 'https://id.example.com', subject: 'ada', email: null, firstName: null, lastName: null, isActive: true, onboardingCompleted: true, providerUpdatedAt: null, profile: null } as const
  const app = await cache({
    load: batch => batch.map(async (): Promise<UserRecord> => {
      loads++
      return { kind: 'active', user, revision: loads, sync: 'skipped', lastSyncedAtMs: null, tokensValidFromMs: 0, revokedSessions: [] }
    })
  })
  t.teardown(() => app.close())
  const me = { url: '/me', headers: { 'x-user': 'ada' } }
  const replies = await Promise.all(Array.from({ length: 50 }, () => app.inject(me)))
  t.ok(replies.every(reply => reply.json().userId === '1'))
  t.equal(loads, 1)
  t.strictSame((await app.inject({ method: 'DELETE', url: '/cached/ada' })).json(), { known: true })
  await app.inject(me)
  t.equal(loads, 2)
})
