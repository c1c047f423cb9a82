import type { AddressInfo } from 'node:net'
import { clerkSimulator, type Simulator } from '@orientor/clerk-simulator'
import { createIdentity, sessionHub, type Component } from '@orientor/session-contract'
import { ManualClock, testDatabase, testServer, until } from '@orientor/test-kit'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { observe, sessionEnded, smartSync, type SmartSyncOptions } from '../src/index.js'
import { poolOn } from './fixtures/on-postgres.js'
import { eventOf, otherSecret, secret, signedHeaders, userData, type Signed } from './fixtures/webhooks.js'

const issuer = 'https://clerk.example.com'
const path = '/webhooks/clerk'
const shortNames = 'CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, first_name varchar(5))'

interface Served {
  readonly app: FastifyInstance
  readonly pool: pg.Pool
  /** Sends an event, signed now; answers with the status and the outcome, or the code of the problem. */
  readonly send: (event: unknown, signed?: Signed) => Promise<[number, string | undefined]>
  readonly row: (subject?: string) => Promise<Record<string, any> | undefined>
  readonly letters: () => Promise<ReadonlyArray<Record<string, any>>>
  readonly component: () => Component
}

/** An app with webhooks on a database, whose gateway names user and session in headers. */
async function served (t: Test, url: string, options: Partial<SmartSyncOptions> = {}): Promise<Served> {
  const pool = poolOn(t, url)
  const app = Fastify()
  const hub = sessionHub(app)
  hub.fill('identify', 'gateway', request => {
    const { 'x-user': subject, 'x-session': sessionId } = request.headers
    if (typeof subject !== 'string') return { kind: 'anonymous' }
    return createIdentity({ issuer, subject, claims: {}, ...typeof sessionId === 'string' && { sessionId } })
  })
  app.register(smartSync, { pool, webhooks: { secrets: [secret, otherSecret], issuer }, ...options })
  app.get('/me', { config: { session: { required: true } } }, async request => request.sessionUser)
  t.teardown(async () => { await app.close() })
  await app.ready()
  return {
    app,
    pool,
    async send (event, signed = {}) {
      const body = typeof event === 'string' ? event : JSON.stringify(event)
      const reply = await app.inject({ method: 'POST', url: path, headers: signedHeaders(body, signed), body })
      const { outcome, code } = reply.body === '' ? {} : reply.json()
      return [reply.statusCode, outcome ?? code]
    },
    async row (subject = 'user_a') {
      return (await pool.query('SELECT * FROM users WHERE clerk_user_id = $1', [subject])).rows[0]
    },
    letters: async () => (await pool.query('SELECT * FROM sync_dead_letters ORDER BY id')).rows,
    component: () => hub.components.find(({ name }) => name === 'databaseSync')!
  }
}

async function me (app: FastifyInstance, user: string, session?: string): Promise<LightMyRequestResponse> {
  const headers = { 'x-user': user, ...session !== undefined && { 'x-session': session } }
  return await app.inject({ url: '/me', headers })
}

t.test('webhooks of the simulator over HTTP', t => {
  interface Simulated extends Served {
    readonly simulator: Simulator
    readonly statuses: () => Promise<ReadonlyArray<number | null>>
  }

  async function simulated (t: Test): Promise<Simulated> {
    const { url } = await testDatabase(t)
    const clerk = await clerkSimulator({ issuer, webhookSecret: secret })
    await clerk.listen({ port: 0, host: '127.0.0.1' })
    t.teardown(async () => { await clerk.close() })
    const { simulator } = clerk
    const { instanceId } = simulator
    const running = await served(t, url, { webhooks: { secrets: [secret, otherSecret], issuer, instanceId } })
    await running.app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = running.app.server.address() as AddressInfo
    await simulator.addWebhookEndpoint({ url: `http://127.0.0.1:${port}${path}` })
    return {
      ...running,
      simulator,
      statuses: async () => (await simulator.deliveries()).map(({ status }) => status)
    }
  }

  t.test('make a row, change it, bar it, end its sessions and mark it as deleted', async t => {
    const { app, pool, row, simulator, statuses } = await simulated(t)
    const email = 'ada@example.com'
    const user = await simulator.createUser({ firstName: 'Ada', email, unsafeMetadata: { role: 'admin' } })
    t.same(await statuses(), [200])
    t.match(await row(user.id), {
      issuer, email, first_name: 'Ada', provider_blocked: false, is_active: true
    })
    await pool.query('UPDATE users SET onboarding_completed = true')

    await simulator.updateUser(user.id, { firstName: 'Augusta', publicMetadata: { plan: 'pro' } })
    t.same(await statuses(), [200, 200])
    t.match(await row(user.id), {
      first_name: 'Augusta', profile_data: { publicMetadata: { plan: 'pro' } }, onboarding_completed: true
    })

    const session = await simulator.createSession(user.id)
    const other = await simulator.createSession(user.id)
    await simulator.deliveries()
    t.equal((await me(app, user.id, session.id)).statusCode, 200)
    await simulator.signOut({ userId: user.id, sessionId: session.id })
    await simulator.deliveries()
    t.same(Object.keys((await row(user.id))!['revoked_sessions']), [session.id])
    t.equal((await me(app, user.id, session.id)).statusCode, 401)
    t.equal((await me(app, user.id, other.id)).statusCode, 200)

    await simulator.banUser(user.id)
    await simulator.deliveries()
    t.match(await row(user.id), {
      provider_blocked: true, is_active: true, revoked_sessions: { [session.id]: Number, [other.id]: Number }
    })
    t.equal((await me(app, user.id)).statusCode, 403)
    await simulator.unbanUser(user.id)
    await simulator.deliveries()
    t.equal((await me(app, user.id)).statusCode, 200)

    await simulator.deleteUser(user.id)
    t.ok((await statuses()).every(status => status === 200))
    t.match(await row(user.id), { deleted_at: Date, email: 'ada@example.com' })
    t.equal((await me(app, user.id)).statusCode, 401)
    t.notMatch(JSON.stringify(await row(user.id)), 'admin')
  })

  t.test('are counted, by what they come to', async t => {
    const { app, component, send, simulator } = await simulated(t)
    await simulator.createUser({ firstName: 'Ada' })
    await simulator.deliveries()
    t.same(await send(eventOf('user.created', userData('user_b'))), [400, 'ORI_SYNC_WEBHOOK_FOREIGN'])
    t.same(await send(eventOf('email.created', {}, { instance_id: simulator.instanceId })), [204, undefined])
    t.match(component().stats(), {
      'webhooks.applied': 1, 'webhooks.refused': 1, 'webhooks.ignored': 1, profileCreates: 1
    })
    const instrument = component().instruments.find(({ name }) => name === 'orientor.sync.webhooks')!
    t.match(instrument.read(), [{ labels: { outcome: 'applied' }, value: 1 }])
    t.equal(app.smartSync.stats().performed, 1)
  })

  t.test('by two endpoints, while a secret is rotated, make one row and change it once', async t => {
    const { app, row, simulator, statuses } = await simulated(t)
    const { port } = app.server.address() as AddressInfo
    await simulator.addWebhookEndpoint({ url: `http://127.0.0.1:${port}${path}`, secret: otherSecret })
    const user = await simulator.createUser({ firstName: 'Ada' })
    t.same(await statuses(), [200, 200])
    const { revision } = (await row(user.id))!
    await simulator.updateUser(user.id, { firstName: 'Augusta' })
    t.same(await statuses(), [200, 200, 200, 200])
    t.match(await row(user.id), { first_name: 'Augusta', revision: String(Number(revision) + 1) })
  })
  t.end()
})

t.test('an event', t => {
  t.test('says what it came to, and comes to the same when it is delivered again', async t => {
    const { url } = await testDatabase(t)
    const { send, row } = await served(t, url)
    const created = eventOf('user.created', userData('user_a'))
    const later = { first_name: 'Augusta', updated_at: 1_760_000_001_000 }
    const updated = eventOf('user.updated', userData('user_a', later))
    t.same(await send(created), [200, 'created'])
    t.same(await send(updated), [200, 'updated'])
    t.same(await send(updated, { id: 'msg_1' }), [200, 'unchanged'], 'the same id, signed anew')
    t.same(await send(updated, { id: 'msg_2', by: otherSecret, family: 'webhook' }), [200, 'unchanged'], 'another id')
    t.same(await send(created), [200, 'outdated'])
    t.match(await row(), { first_name: 'Augusta', revision: '2' })
    const ended = eventOf('session.ended', { id: 'sess_1', user_id: 'user_a', user: null })
    t.same(await send(ended), [200, 'updated'])
    const { revoked_sessions: revoked, revision } = (await row())!
    t.same(revoked, { sess_1: Number(ended['timestamp']) + 86_400_000 })
    t.same(await send(ended), [200, 'unchanged'])
    t.match(await row(), { revision, revoked_sessions: revoked })
    t.same(await send(eventOf('user.deleted', { id: 'user_a', deleted: true })), [200, 'tombstoned'])
    for (const late of [created, updated, ended]) t.same(await send(late), [200, 'tombstoned'])
    t.match(await row(), { deleted_at: Date })
  })

  t.test('of a deletion keeps a user out who was never seen', async t => {
    const { url } = await testDatabase(t)
    const { send, row, app } = await served(t, url)
    t.same(await send(eventOf('user.deleted', { id: 'user_a', deleted: true })), [200, 'tombstoned'])
    t.same(await send(eventOf('user.created', userData('user_a'))), [200, 'tombstoned'])
    t.equal(await row(), undefined)
    t.equal((await me(app, 'user_a')).statusCode, 401)
  })

  t.test('of a user without a row makes none where the app makes the rows', async t => {
    const { url } = await testDatabase(t)
    const { send, pool } = await served(t, url, {
      createUsers: false, issuer: { always: issuer }, webhooks: { secrets: secret }
    })
    t.same(await send(eventOf('user.created', userData('user_a'))), [200, 'unknown'])
    await pool.query("INSERT INTO users (clerk_user_id) VALUES ('user_a')")
    t.same(await send(eventOf('user.created', userData('user_a'))), [200, 'updated'])
  })

  t.test('that the table refuses is kept as it was received, once, and spoils nothing else', async t => {
    const { url } = await testDatabase(t)
    await poolOn(t, url).query(shortNames)
    const { send, row, letters } = await served(t, url)
    const body = JSON.stringify(eventOf('user.created', userData('user_a', { first_name: 'Augusta' })), null, 1)
    t.same(await send(body), [200, 'dead_lettered'])
    t.same(await send(body), [200, 'dead_lettered'])
    t.match(await letters(), [{
      lane: 'webhook',
      issuer,
      clerk_user_id: 'user_a',
      sqlstate: '22001',
      reason: /first_name/,
      received: Buffer.from(body)
    }])
    t.equal((await letters()).length, 1)
    t.equal(await row(), undefined)
    t.same(await send(eventOf('user.created', userData('user_b'))), [200, 'created'])
  })

  t.test('of the end of a session is stored also where the profile that is told along cannot be', async t => {
    const { url } = await testDatabase(t)
    await poolOn(t, url).query(shortNames)
    const { send, row, letters, app } = await served(t, url)
    t.same(await send(eventOf('user.created', userData('user_a'))), [200, 'created'])
    const poison = userData('user_a', { first_name: 'Augusta', updated_at: 1_770_000_000_000 })
    t.same(await send(eventOf('session.revoked', { id: 'sess_1', user_id: 'user_a', user: poison })), [200, 'updated'])
    t.match(await row(), { first_name: 'Ada', revoked_sessions: { sess_1: Number } })
    t.equal((await me(app, 'user_a', 'sess_1')).statusCode, 401)
    t.match(await letters(), [{ clerk_user_id: 'user_a', sqlstate: '22001' }])
    const future = userData('user_a', { first_name: 'Bob', updated_at: Date.now() + 10 * 86_400_000 })
    t.same(await send(eventOf('session.revoked', { id: 'sess_2', user_id: 'user_a', user: future })), [200, 'updated'])
    t.match(await row(), { first_name: 'Ada', revoked_sessions: { sess_1: Number, sess_2: Number } })
    t.equal((await letters()).length, 2)
  })

  t.test('of the end of a session is stored whatever else is wrong with the profile, whichever user comes along', async t => {
    const { url } = await testDatabase(t)
    await poolOn(t, url).query(shortNames.replace('(5)', '(5), email text UNIQUE'))
    const { send, row, letters, app } = await served(t, url)
    const session = (subject: string, more: Record<string, unknown> = {}): unknown => {
      const user = userData(subject, { first_name: 'Augusta', ...more })
      return eventOf('session.ended', { id: `sess_${subject}`, user_id: subject, user })
    }
    t.same(await send(session('user_a')), [200, 'created'], 'a user who has no row yet')
    t.match(await row('user_a'), { first_name: null, email: null, revoked_sessions: { sess_user_a: Number } })
    t.same(await send(eventOf('user.created', userData('user_a'))), [200, 'updated'])
    t.match(await row('user_a'), { first_name: 'Ada', revoked_sessions: { sess_user_a: Number } })
    const taken = { email_addresses: [{ id: 'idn_2', email_address: 'user_a@example.com' }] }
    t.same(await send(session('user_b', taken)), [200, 'created'], 'an address that is another\'s besides')
    t.match(await row('user_b'), { first_name: null, email: null, revoked_sessions: { sess_user_b: Number } })
    t.equal((await letters()).length, 2)
    const profile = { email: null, firstName: 'Ada', lastName: null, blocked: false, data: null }
    const untilMs = Date.now() + 60_000
    const outcomes = await app.smartSync.apply([
      observe(issuer, 'user_c', profile, 1_760_000_000_000, true),
      observe(issuer, 'user_d', { ...profile, firstName: 'Augusta' }, 1_760_000_000_000, true),
      sessionEnded(issuer, 'user_d', 'sess_d', untilMs),
      sessionEnded(issuer, 'user_e', 'sess_e', untilMs),
      observe(issuer, 'user_f', { ...profile, firstName: 'Augusta' }, 1_760_000_000_000, true)
    ])
    t.match(outcomes.map(({ kind }) => kind), ['created', 'dead_lettered', 'created', 'created', 'dead_lettered'])
    t.match(await row('user_d'), { first_name: null, revoked_sessions: { sess_d: untilMs } })
    t.equal(await row('user_f'), undefined)
  })

  t.test('that cannot be read is kept as it was received, NUL and all', async t => {
    const { url } = await testDatabase(t)
    const { send, letters, app } = await served(t, url)
    const bodies = [
      'not JSON \\u0000', '[1]', '{"type":"user.updated","data":{"id":"user_\\u0000"}}',
      '{"type":"session.ended","data":{"user_id":"user_a"}}', ''
    ]
    for (const body of bodies) t.same(await send(body), [200, 'dead_lettered'], body)
    t.same((await letters()).map(({ received }) => received.toString()), bodies)
    t.same((await letters()).map(({ clerk_user_id: subject }) => subject), [null, null, null, 'user_a', null])
    t.match(app.smartSync.stats(), { deadLetters: 5, errorsByReason: { unreadable: 5 } })
  })

  t.test('with metadata of any kind is stored', async t => {
    const { url } = await testDatabase(t)
    const { send, row } = await served(t, url)
    let n = 0
    for (const plan of [
      '{"__proto__":{"admin":true}}', '{"a\\u0000":"b\\u0000"}', '"\\ud800"', '1e400', '"💚"',
      '{"constructor":{"prototype":null}}',
      ...[100, 1000, 3000, 10_000, 100_000].map(depth => '['.repeat(depth) + ']'.repeat(depth))
    ]) {
      const event = eventOf('user.updated', userData('user_a', { updated_at: 1_760_000_000_000 + ++n }))
      const body = JSON.stringify(event).replace('"pro"', plan)
      const [status, outcome] = await send(body)
      t.equal(status, 200, plan.slice(0, 40))
      t.match(outcome, /^(created|updated|unchanged)$/)
      t.equal((await row())!['clerk_updated_at'].getTime(), 1_760_000_000_000 + n)
    }
  })
  t.end()
})

t.test('an event that cannot be stored', t => {
  t.test('while the database is down is asked for again, and stored then', async t => {
    const server = await testServer(t)
    const { send, row, component } = await served(t, await server.createDatabase())
    await server.kill('SIGKILL')
    const event = eventOf('user.created', userData('user_a'))
    t.same(await send(event), [503, 'ORI_SYNC_WEBHOOK_NOT_STORED'])
    t.same(await send('no JSON'), [503, 'ORI_SYNC_WEBHOOK_NOT_STORED'], 'one that cannot be read, too')
    const strange = `whsec_${Buffer.alloc(24, 3).toString('base64')}`
    t.same(await send(event, { by: strange }), [400, 'ORI_SYNC_WEBHOOK_UNVERIFIED'])
    t.match(component().stats(), { 'webhooks.not_stored': 2, 'webhooks.refused': 1 })
    await server.start()
    await until('it is stored', async () => (await send(event))[0] === 200)
    t.match(await row(), { first_name: 'Ada' })
  })

  t.test('before the tables are in place is asked for again', async t => {
    const server = await testServer(t)
    const url = await server.createDatabase()
    await server.kill('SIGKILL')
    const { send, app } = await served(t, url)
    const event = eventOf('user.created', userData('user_a'))
    t.same(await send(event), [503, 'ORI_SYNC_WEBHOOK_NOT_STORED'])
    await app.listen({ port: 0, host: '127.0.0.1' }) // Something has to keep the process waiting.
    await server.start()
    await app.smartSync.migrated
    t.same(await send(event), [200, 'created'])
  })

  t.test('since its row is locked is asked for again after 8 seconds, and stored then', async t => {
    const { url } = await testDatabase(t)
    const clock = new ManualClock({ now: Date.now() })
    const { send, pool, row } = await served(t, url, { clock })
    t.same(await send(eventOf('user.created', userData('user_a'))), [200, 'created'])
    const holder = await pool.connect()
    await holder.query('BEGIN; SELECT FROM users FOR UPDATE')
    const later = { first_name: 'Augusta', updated_at: 1_770_000_000_000 }
    const updated = eventOf('user.updated', userData('user_a', later))
    let answer: unknown
    const answered = send(updated).then(reply => { answer = reply })
    const waiters = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    await until('it waits for the lock', async () => (await pool.query(waiters)).rows.length > 0)
    clock.advance(7999)
    await clock.settle()
    t.equal(answer, undefined)
    clock.advance(1)
    await answered
    t.same(answer, [503, 'ORI_SYNC_WEBHOOK_NOT_STORED'])
    await holder.query('COMMIT')
    holder.release()
    t.match((await send(updated))[1], /^(updated|unchanged)$/)
    t.match(await row(), { first_name: 'Augusta' })
  })
  t.end()
})

t.test('the route stands below the prefix of the scope that the plugin is registered in', async t => {
  const unreachable = async (): Promise<never> => {
    throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
  }
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  app.register(async scope => {
    const pool = { query: unreachable, connect: unreachable }
    scope.register(smartSync, { pool, migrate: false, webhooks: { secrets: secret, issuer, path: '/hooks' } })
  }, { prefix: '/api' })
  const body = JSON.stringify(eventOf('user.deleted', { id: 'user_a' }))
  const statusAt = async (url: string): Promise<number> => {
    return (await app.inject({ method: 'POST', url, headers: signedHeaders(body), body })).statusCode
  }
  t.same(await Promise.all(['/api/hooks', '/hooks', '/api/webhooks/clerk'].map(statusAt)), [503, 404, 404])
})

t.test('an app without the issuer does not start', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await t.rejects(async () => { await app.register(smartSync, { webhooks: { secrets: secret } }) }, {
    code: 'ORI_CONTRACT_INVALID_OPTION', message: /needs the issuer of the users/
  })
})
