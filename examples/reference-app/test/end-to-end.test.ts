import { Agent } from 'node:http'
import t from 'tap'
import { startRedis, testServer, until, withoutRedis } from '@orientor/test-kit'
import { launch } from './fixtures/launch.js'
import { Load, request } from './fixtures/load.js'
import { adminKey, newWorld, worldAt, type World } from './fixtures/world.js'

interface Me { readonly user: { readonly userId: string, readonly subject: string, readonly firstName: string | null }, readonly outcome: { readonly from: string, readonly stale: boolean } }

const agent = new Agent({ keepAlive: true, maxSockets: 50 })
t.teardown(() => { agent.destroy() })

const ourTables = ['users', 'user_tombstones', 'sync_dead_letters', 'sync_checkpoints']

async function statements ({ sql }: World): Promise<number> {
  const [row] = await sql(`SELECT coalesce(sum(calls), 0)::int AS calls FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query ~ '\\m(${ourTables.join('|')})\\M' AND query !~ 'pg_stat_statements'`)
  return Number(row?.['calls'])
}

async function health (url: string): Promise<{ status: number, body: { status: string } }> {
  const response = await fetch(`${url}/database/health`, { headers: { 'x-admin-key': adminKey } })
  return { status: response.status, body: await response.json() as { status: string } }
}

for (const kind of ['PostgreSQL', 'Redis']) {
  const skip = kind === 'Redis' && withoutRedis
  t.test(`With a bell over ${kind}, a change by SQL is on every process long before the next poll`, { skip }, async t => {
    const world = await newWorld(t)
    const bellUrl = kind === 'Redis' ? `redis://127.0.0.1:${await startRedis(t)}` : world.environment['DATABASE_URL']!
    const environment = { ...world.environment, BELL_URL: bellUrl, POLL_INTERVAL_MS: '60000', MAX_STALENESS_MS: '120000' }
    const urls = await Promise.all([launch(t, environment).url, launch(t, environment).url])
    const [user] = await world.users(1)
    const firstNames = async (): Promise<Array<string | null>> => await Promise.all(urls.map(async url => {
      const { body } = await request(`${url}/me`, { authorization: user!.authorization }, agent)
      return (JSON.parse(body) as Me).user.firstName
    }))
    t.strictSame(await firstNames(), ['User 0', 'User 0'])
    await until('both are healthy', async () => {
      const answers = await Promise.all(urls.map(url => health(url)))
      return answers.every(({ body }) => body.status === 'healthy')
    })
    // What is committed while no instance leads the relay is polled for: until one does, changes go on.
    const sinceMs = performance.now()
    await until('both have the change', async () => {
      await world.sql("UPDATE users SET first_name = 'Ada' || clock_timestamp()")
      await new Promise(resolve => { setTimeout(resolve, 100) })
      return (await firstNames()).every(name => name?.startsWith('Ada') === true)
    })
    const tookMs = performance.now() - sinceMs
    t.ok(tookMs < 20_000, `${Math.round(tookMs)} ms`)
  })
}

t.test('A thousand requests of known users send no statement, and the first one of each was enough', async t => {
  const world = await newWorld(t)
  await world.sql('CREATE EXTENSION pg_stat_statements')
  const app = launch(t, world.environment)
  const url = await app.url
  const users = await world.users(20)
  for (const { authorization } of users) t.match(await request(`${url}/me`, { authorization }, agent), { status: 200, stale: false })
  t.ok(await statements(world) > 0, 'the count sees the first requests')

  const before = await statements(world)
  const answers = await Promise.all(Array.from({ length: 1000 }, (_, index) => request(`${url}/me`, { authorization: users[index % 20]!.authorization }, agent)))
  t.ok(answers.every(({ status, stale, body }) => status === 200 && !stale && (JSON.parse(body) as Me).outcome.from === 'cache'))
  t.equal(await statements(world) - before, 0)
  t.equal(new Set(answers.map(({ body }) => (JSON.parse(body) as Me).user.userId)).size, 20)
})

t.test('Fifty first requests at once of one new user make one row and get one id', async t => {
  const world = await newWorld(t)
  const url = await launch(t, world.environment).url
  const [user] = await world.users(1)
  const answers = await Promise.all(Array.from({ length: 50 }, () => request(`${url}/me`, { authorization: user!.authorization }, agent)))
  t.strictSame(answers.map(({ status }) => status), Array.from({ length: 50 }, () => 200))
  t.equal(new Set(answers.map(({ body }) => (JSON.parse(body) as Me).user.userId)).size, 1)
  t.strictSame(await world.sql('SELECT count(*)::int AS rows, min(clerk_user_id) AS subject FROM users'), [{ rows: 1, subject: user!.id }])
})

t.test('Two processes that start at once share one database', async t => {
  const world = await newWorld(t)
  const urls = await Promise.all([launch(t, world.environment).url, launch(t, world.environment).url])
  const [user] = await world.users(1)
  const answers = await Promise.all(urls.map(url => request(`${url}/me`, { authorization: user!.authorization }, agent)))
  t.strictSame(answers.map(({ status }) => status), [200, 200])
  t.equal(new Set(answers.map(({ body }) => (JSON.parse(body) as Me).user.userId)).size, 1)
})

t.test('What Clerk tells one process by webhook is in the row, and on every process', async t => {
  const world = await newWorld(t)
  const urls = await Promise.all([launch(t, world.environment).url, launch(t, world.environment).url])
  const { simulator } = world.clerk
  await simulator.addWebhookEndpoint({ url: `${urls[0]}/webhooks/clerk` })
  const ask = async (authorization: string): Promise<Array<{ status: number, firstName?: string | null }>> => {
    return await Promise.all(urls.map(async url => {
      const { status, body } = await request(`${url}/me`, { authorization }, agent)
      return status === 200 ? { status, firstName: (JSON.parse(body) as Me).user.firstName } : { status }
    }))
  }
  const served = { status: 200, firstName: 'Grace' }
  /** Waits until both processes answer so, and checks that the sender was told of a commit. */
  const untilBoth = async (what: string, authorization: string, answer: typeof served | { status: number }): Promise<void> => {
    const statuses = (await simulator.deliveries()).map(({ status }) => status)
    t.ok(statuses.length > 0 && statuses.every(status => status === 200), `${what}: ${statuses.join()}`)
    let last: unknown
    await until(what, async () => {
      last = await ask(authorization)
      return JSON.stringify(last) === JSON.stringify([answer, answer])
    }, 10_000).catch(() => {})
    t.strictSame(last, [answer, answer], what)
  }
  const signIn = async (userId: string): Promise<{ readonly sessionId: string, readonly authorization: string }> => {
    const { id: sessionId } = await simulator.createSession(userId)
    const token = await simulator.mintToken({ userId, sessionId, lifetimeSeconds: 3600 })
    return { sessionId, authorization: `Bearer ${token}` }
  }

  const { id } = await simulator.createUser({ firstName: 'Ada', email: 'ada@example.com' })
  await simulator.deliveries()
  const rows = await world.sql('SELECT clerk_user_id, first_name FROM users')
  t.strictSame(rows, [{ clerk_user_id: id, first_name: 'Ada' }], 'before the first visit')
  const [phone, laptop] = [await signIn(id), await signIn(id)]
  await untilBoth('both know the user', phone.authorization, { status: 200, firstName: 'Ada' })

  await simulator.updateUser(id, { firstName: 'Grace' })
  await untilBoth('a change', phone.authorization, served)
  t.strictSame(await world.sql('SELECT first_name FROM users'), [{ first_name: 'Grace' }])

  await simulator.signOut({ userId: id, sessionId: phone.sessionId })
  await untilBoth('a session that ended', phone.authorization, { status: 401 })
  t.strictSame(await ask(laptop.authorization), [served, served], 'another session goes on')

  await simulator.banUser(id)
  await simulator.unbanUser(id)
  const back = await signIn(id)
  await untilBoth('no ban any more, and a new session', back.authorization, served)
  await simulator.banUser(id)
  await untilBoth('a ban', back.authorization, { status: 403 })

  await simulator.unbanUser(id)
  const last = await signIn(id)
  await untilBoth('and none', last.authorization, served)
  await simulator.deleteUser(id)
  await untilBoth('a deletion', last.authorization, { status: 401 })
  const { messageId } = (await simulator.deliveries()).find(({ type }) => type === 'user.created')!
  t.match(await simulator.redeliver(messageId), { status: 200 })
  t.match(await world.sql('SELECT is_active, deleted_at FROM users'), [{ is_active: true, deleted_at: Date }], 'for good')
  t.strictSame(await ask(last.authorization), [{ status: 401 }, { status: 401 }])
})

t.test('Bad credentials are refused with what is wrong, change nothing, and are never repeated in the answer', async t => {
  const world = await newWorld(t)
  const url = await launch(t, world.environment).url
  const [user] = await world.users(1)
  const { simulator } = world.clerk
  const [header, claims, signature] = user!.authorization.slice('Bearer '.length).split('.') as [string, string, string]
  const none = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(header, 'base64url').toString()), alg: 'none' })).toString('base64url')
  const cases: ReadonlyArray<readonly [name: string, authorization: string | null, status: number, code: string]> = [
    ['no token', null, 401, 'ORI_SESSION_REQUIRED'],
    ['garbage', 'Bearer garbage', 401, 'ORI_SESSION_INVALID_TOKEN'],
    ['expired', `Bearer ${await simulator.mintToken({ userId: user!.id, lifetimeSeconds: -60 })}`, 401, 'ORI_SESSION_INVALID_TOKEN'],
    ['wrong issuer', `Bearer ${await simulator.mintToken({ userId: user!.id, claims: { iss: 'https://evil.example' } })}`, 401, 'ORI_SESSION_INVALID_TOKEN'],
    ['alg none', `Bearer ${none}.${claims}.`, 401, 'ORI_SESSION_INVALID_TOKEN'],
    ['alg none with a signature', `Bearer ${none}.${claims}.${signature}`, 401, 'ORI_SESSION_INVALID_TOKEN'],
    ['two tokens', `${user!.authorization} ${claims}`, 400, 'ORI_SESSION_INVALID_REQUEST']
  ]
  for (const [name, authorization, status, code] of cases) {
    const response = await fetch(`${url}/me`, { headers: authorization === null ? {} : { authorization } })
    const body = await response.text()
    t.equal(response.status, status, name)
    t.match(JSON.parse(body), { status, code, detail: /./ }, name)
    t.match(response.headers.get('content-type'), /^application\/problem\+json/, name)
    t.match(response.headers.get('www-authenticate'), /^Bearer realm=/, name)
    t.notOk(body.includes(user!.id) || body.includes('evil.example') || body.includes(claims), name)
  }
  t.strictSame(await world.sql('SELECT * FROM users'), [])
  t.equal((await request(`${url}/me`, { authorization: user!.authorization }, agent)).status, 200, 'and the next good token is served')
})

t.test('The routes tell what they are for', async t => {
  const world = await newWorld(t)
  const url = await launch(t, world.environment).url
  const [user] = await world.users(1)
  const headers = { authorization: user!.authorization }
  const me = JSON.parse((await request(`${url}/me`, headers, agent)).body) as Me
  const bare = JSON.parse((await request(`${url}/bare`, {}, agent)).body) as Me
  t.strictSame(Object.keys(bare.user), Object.keys(me.user), '/bare has the shape of /me')
  t.strictSame(Object.keys(bare.outcome), Object.keys(me.outcome))
  t.match(await request(`${url}/me/fresh`, headers, agent), { status: 200, stale: false })
  t.strictSame(JSON.parse((await request(`${url}/public`, {}, agent)).body), { message: 'This route is for everybody.', userId: null })
  t.match(JSON.parse((await request(`${url}/public`, headers, agent)).body), { userId: me.user.userId })
  t.notMatch((await request(`${url}/me`, headers, agent)).body, /\n/, 'JSON is indented in the demonstration only')
})

t.test('/docs is a page with every route that loads nothing from elsewhere', async t => {
  const world = await newWorld(t)
  const url = await launch(t, world.environment).url
  const page = await fetch(`${url}/docs`)
  t.match([page.status, page.headers.get('content-type')], [200, /^text\/html/])
  const html = await page.text()
  const linked = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, target]) => new URL(target!, page.url))
  t.ok(linked.length >= 4, 'scripts and styles')
  for (const target of linked) {
    t.equal(target.origin, new URL(url).origin, target.href)
    t.equal((await fetch(target)).status, 200, target.href)
  }
  const [initializer] = linked.filter(({ pathname }) => pathname.endsWith('initializer.js'))
  const script = await (await fetch(initializer!)).text()
  t.notMatch(script.replace(/\/\/ .*/g, ''), /https?:\/\//, 'nor is another server asked to validate the document')

  const docs = await (await fetch(`${url}/docs/json`)).json() as { openapi: string, paths: Record<string, Record<string, { security?: object[], responses: Record<string, unknown> }>> }
  t.equal(docs.openapi, '3.1.0')
  t.strictSame(Object.keys(docs.paths).sort(), ['/bare', '/database/health', '/database/invalidate-user-cache', '/database/performance', '/me', '/me/fresh', '/public', '/webhooks/clerk'])
  t.strictSame(Object.keys(docs.paths['/me']!['get']!.responses), ['200', '400', '401', '403', '503'])
  t.strictSame(docs.paths['/me']!['get']!.security, [{ session: [] }])
  t.strictSame(docs.paths['/database/health']!['get']!.security, [{ adminKey: [] }], 'what to send is known to the page')
  const webhook = docs.paths['/webhooks/clerk']!['post']!
  t.strictSame(webhook.security, [{ webhook: [] }])
  t.strictSame(Object.keys(webhook.responses), ['200', '204', '400', '413', '415', '503'])
})

t.test('The admin routes need the key, and are not there without one', async t => {
  const world = await newWorld(t)
  const url = await launch(t, world.environment).url
  t.match(await health(url), { status: 200, body: { status: 'healthy' } })
  t.match((await fetch(`${url}/database/health`)).status, 401)
  t.match((await fetch(`${url}/database/performance`, { headers: { 'x-admin-key': 'a-wrong-key-of-length' } })).status, 401)

  const { ADMIN_KEY: _, ...without } = world.environment
  const keyless = launch(t, without)
  t.equal((await fetch(`${await keyless.url}/database/health`, { headers: { 'x-admin-key': adminKey } })).status, 404)
  t.equal(keyless.output().match(/ADMIN_KEY is not set: there are no routes under \/database/g)?.length, 1)
})

t.test('An app whose database cannot be reached is up, says so, and recovers by itself', async t => {
  const server = await testServer(t)
  await server.kill('SIGINT')
  const world = await worldAt(t, server, server.url())
  const app = launch(t, world.environment)
  const url = await app.url
  const [user] = await world.users(1)
  const headers = { authorization: user!.authorization }

  t.match((await health(url)).body, { status: 'unhealthy' })
  const refused = await fetch(`${url}/me`, { headers })
  t.equal(refused.status, 503)
  t.ok(Number(refused.headers.get('retry-after')) >= 1)
  t.equal((await request(`${url}/public`, {}, agent)).status, 200)
  t.equal((await request(`${url}/bare`, {}, agent)).status, 200)

  await server.start()
  await until('the user is served', async () => (await request(`${url}/me`, headers, agent)).status === 200)
  await until('health says so', async () => (await health(url)).body.status === 'healthy')
  t.pass('recovered')
})

t.test('While the database is down an expired user is served, marked, where the route allows it; an invalidated one is loaded anew', async t => {
  const server = await testServer(t)
  const world = await worldAt(t, server, server.url())
  const app = launch(t, { ...world.environment, SESSION_EXPIRE_AFTER_MS: '200' })
  const url = await app.url
  const [user] = await world.users(1)
  const headers = { authorization: user!.authorization }
  t.match(await request(`${url}/me`, headers, agent), { status: 200, stale: false })

  await server.kill('SIGINT')
  await until('the user has expired', async () => (await request(`${url}/me`, headers, agent)).stale)
  const stale = await request(`${url}/me`, headers, agent)
  t.match(stale, { status: 200, stale: true })
  t.match(JSON.parse(stale.body), { outcome: { stale: true, from: 'cache' } })
  t.equal((await request(`${url}/me/fresh`, headers, agent)).status, 503)

  await server.start()
  await until('the user is fresh again', async () => !(await request(`${url}/me`, headers, agent)).stale)
  // Refused until the bus, too, has found the database again: other instances would not hear of it. How many hear it,
  // it knows once it has checked in again.
  let answer: { instances?: number | null } = {}
  await until('an invalidation reaches every instance', async () => {
    const reply = await fetch(`${url}/database/invalidate-user-cache`, {
      method: 'POST',
      headers: { 'x-admin-key': adminKey, 'content-type': 'application/json' },
      body: JSON.stringify({ issuer: world.clerk.simulator.issuer, subject: user!.id })
    })
    answer = await reply.json() as typeof answer
    return reply.ok && answer.instances !== null
  })
  t.match(answer, { invalidated: true, instances: 1 })
  t.match(JSON.parse((await request(`${url}/me`, headers, agent)).body), { outcome: { from: 'source', stale: false } })
})

t.test('Terminating every backend twenty times under load ends neither the process nor a request of a known user', async t => {
  const world = await newWorld(t)
  const app = launch(t, world.environment)
  const url = await app.url
  const users = await world.users(20)
  for (const { authorization } of users) await request(`${url}/me`, { authorization }, agent)

  const load = new Load(`${url}/me`, users.map(({ authorization }) => ({ authorization })), 10)
  let terminated = 0
  for (let round = 0; round < 20; round++) {
    const [first, second] = await world.users(2)
    await request(`${url}/me`, { authorization: first!.authorization }, agent)
    const newcomersRequest = request(`${url}/me`, { authorization: second!.authorization }, agent)
    terminated += Number((await world.sql('SELECT count(pg_terminate_backend(pid))::int AS n FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()'))[0]?.['n'])
    t.ok([200, 503].includes((await newcomersRequest).status), 'a newcomer is served, or told to come back')
  }
  await load.stop()
  t.ok(terminated >= 20, `${terminated} backends`)
  t.strictSame(load.failures, [])
  // With the bus and the pool cut down at once, a user older than the bound is served marked.
  t.ok(load.answers.length > 100 && load.answers.every(({ status }) => status === 200))
  t.doesNotThrow(() => process.kill(app.pid, 0), 'the same process')
  const [newcomer] = await world.users(1)
  await until('newcomers are served', async () => (await request(`${url}/me`, { authorization: newcomer!.authorization }, agent)).status === 200)
})

t.test('SIGTERM under load: what was asked is answered, then nothing is left', async t => {
  const world = await newWorld(t)
  const app = launch(t, world.environment)
  const url = await app.url
  const users = await world.users(11)
  const slow = { authorization: users.pop()!.authorization }
  const load = new Load(`${url}/me`, users.map(({ authorization }) => ({ authorization })), 10)
  await until('the load runs', () => load.answers.length > 200)

  const [, answer] = await Promise.all([
    world.sql('BEGIN; LOCK TABLE users; SELECT pg_sleep(1); COMMIT'),
    (async () => {
      await until('the table is locked', async () => (await world.sql("SELECT 1 FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'AccessExclusiveLock' AND granted")).length > 0)
      const waiting = request(`${url}/me`, slow, new Agent())
      await until('the request waits for the table', async () => (await world.sql("SELECT 1 FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted")).length > 0)
      app.kill('SIGTERM')
      return await waiting
    })()
  ])
  t.equal(answer.status, 200, 'a request that was waiting for the database is answered')
  t.equal(await app.ended, 0)
  await load.sentAway()
  t.ok(load.answers.every(({ status }) => status === 200), `${load.answers.length} answers`)
  t.strictSame(load.failures, [], 'no connection was cut')
  t.strictSame(await world.sql("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"), [])
})
