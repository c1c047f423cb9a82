import { once } from 'node:events'
import { spawn } from 'node:child_process'
import { get, type IncomingMessage } from 'node:http'
import { fileURLToPath } from 'node:url'
import { ManualClock } from '@orientor/test-kit'
import { compactVerify, createLocalJWKSet, decodeJwt, decodeProtectedHeader } from 'jose'
import t, { type Test } from 'tap'
import { clerkSimulator, type EndpointFault, type SimulatorOptions } from '../src/index.js'
import { startSimulator } from '../src/start.js'
import { receiver, verified } from './fixtures/receiver.js'

async function setUp (t: Test, options: SimulatorOptions = {}) {
  const clerk = await clerkSimulator({ issuer: 'https://clerk.example.test', ...options })
  t.teardown(() => clerk.close())
  const { simulator } = clerk
  const types = async (): Promise<string[]> => (await simulator.deliveries()).map(({ type }) => type)
  return { clerk, simulator, types }
}

t.test('Each change is posted to every endpoint, signed over the raw body, in an envelope of Clerk.', async t => {
  const { simulator } = await setUp(t)
  const [one, two] = [await receiver(t), await receiver(t)]
  const secondSecret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  await simulator.addWebhookEndpoint({ url: one.url })
  await simulator.addWebhookEndpoint({ url: two.url, secret: secondSecret })
  const before = Date.now()
  const user = await simulator.createUser({ email: 'a@example.test', privateMetadata: { hidden: true } })
  t.match(await simulator.deliveries(), [{ status: 204, failure: null, type: 'user.created' }, { status: 204 }])

  const [first, second] = [one.received[0], two.received[0]]
  if (first === undefined || second === undefined) return t.fail('both endpoints should have received the event')
  t.match(first.headers, { 'content-type': 'application/json', 'svix-id': /^msg_[0-9A-Za-z]{27}$/, 'svix-timestamp': /^\d{10}$/, 'svix-signature': /^v1,[\w+/]{43}=$/ })
  t.not(first.headers['svix-id'], second.headers['svix-id'], 'each endpoint has a message id of its own')
  t.equal(first.body, second.body)
  const event = verified(first, simulator.webhookSecret) as { readonly timestamp: number }
  t.strictSame(verified(second, secondSecret), event)
  t.match(event, {
    data: { ...user, private_metadata: null },
    object: 'event',
    type: 'user.created',
    instance_id: simulator.instanceId,
    event_attributes: { http_request: { client_ip: '127.0.0.1', user_agent: 'clerk-simulator' } }
  })
  t.ok(event.timestamp >= before && event.timestamp <= Date.now(), 'the timestamp is in milliseconds')

  t.throws(() => verified({ ...first, body: first.body.replace('a@example.test', 'b@example.test') }, simulator.webhookSecret), /No matching signature/)
  t.throws(() => verified({ ...first, body: `${first.body} ` }, simulator.webhookSecret), /No matching signature/)
  t.throws(() => verified({ ...first, headers: { ...first.headers, 'svix-id': 'msg_other' } }, simulator.webhookSecret), /No matching signature/)
  t.throws(() => verified(first, secondSecret), /No matching signature/)
})

t.test('The life of a user is told in the events of Clerk, in order.', async t => {
  const clock = new ManualClock({ now: Date.UTC(2026, 0, 1) })
  const { simulator, types } = await setUp(t, { clock })
  const { url, received } = await receiver(t)
  const endpoint = await simulator.addWebhookEndpoint({ url })
  const { id } = await simulator.createUser({ externalId: 'e1', email: 'a@example.test' })
  const [one, two] = [await simulator.createSession(id), await simulator.createSession(id)]
  t.match(one, { object: 'session', id: /^sess_[0-9A-Za-z]{27}$/, user_id: id, client_id: /^client_/, status: 'active', created_at: clock.now() })
  await simulator.signOut({ userId: id, sessionId: one.id })
  await simulator.createSession(id)
  await simulator.signOut({ userId: id, how: 'removed' })
  await simulator.createSession(id)
  t.match(await simulator.banUser(id), { banned: true, updated_at: clock.now() + 1 })
  t.match(await simulator.unbanUser(id), { banned: false, updated_at: clock.now() + 2 })
  t.match(await simulator.updateUser(id, { firstName: 'New' }), { first_name: 'New', updated_at: clock.now() + 3 })
  await simulator.createSession(id)
  await simulator.deleteUser(id)
  t.strictSame(await types(), [
    'user.created', 'session.created', 'session.created', 'session.ended', 'session.created', 'session.removed', 'session.removed',
    'session.created', 'user.updated', 'session.revoked', 'user.updated', 'user.updated', 'session.created', 'user.deleted'
  ])
  const bodies = received.map(({ body }) => JSON.parse(body))
  t.match(bodies[3].data, { object: 'session', id: one.id, status: 'ended', user: { id, object: 'user', private_metadata: null } })
  t.strictSame(bodies[5].data.id, two.id)
  t.match(bodies[9], { data: { status: 'revoked', user: { banned: true } } })
  t.strictSame(bodies[13].data, { id, object: 'user', deleted: true, external_id: 'e1' })

  await simulator.removeWebhookEndpoint(endpoint.id)
  await simulator.createUser()
  t.equal((await types()).length, 14)
  await t.rejects(simulator.removeWebhookEndpoint(endpoint.id), { statusCode: 404, code: 'resource_not_found' })
})

t.test('An endpoint can ask for some events only.', async t => {
  const { simulator, types } = await setUp(t)
  const { url } = await receiver(t)
  await simulator.addWebhookEndpoint({ url, events: ['user.deleted'] })
  const { id } = await simulator.createUser()
  await simulator.deleteUser(id)
  t.strictSame(await types(), ['user.deleted'])
})

t.test('A delivery is tried once unless told otherwise: a redirect is not followed, a refusal and a dead endpoint are noted, and closing gives up a hanging one.', async t => {
  const clerk = await clerkSimulator()
  const { simulator } = clerk
  const [redirecting, failing, hanging] = [await receiver(t, 302), await receiver(t, 500), await receiver(t, null)]
  for (const url of [redirecting.url, failing.url, 'http://127.0.0.1:1/', 'http://localhost:1/', 'http://[::1]:1/']) await simulator.addWebhookEndpoint({ url })
  await simulator.createUser()
  const deliveries = await simulator.deliveries()
  t.strictSame(deliveries.map(({ status }) => status ?? 0).sort((a, b) => a - b), [0, 0, 0, 302, 500])
  t.ok(deliveries.every(({ status, failure }) => (status === null) === (failure !== null)))
  t.equal(redirecting.received.length, 1)

  await simulator.addWebhookEndpoint({ url: hanging.url, events: ['user.deleted'] })
  await simulator.deleteUser((await simulator.createUser()).id)
  while (hanging.received.length === 0) await new Promise(resolve => setImmediate(resolve))
  await clerk.close()
  t.match((await simulator.deliveries()).at(-1), { type: 'user.deleted', status: null, failure: /closing/ })
})

t.test('Only the latest 1000 deliveries and events are remembered, or as many as told.', async t => {
  const { simulator } = await setUp(t)
  await simulator.addWebhookEndpoint({ url: 'http://127.0.0.1:1/' })
  const { id } = await simulator.createUser()
  for (let index = 0; index < 1000; index++) await simulator.updateUser(id, { firstName: String(index) })
  const deliveries = await simulator.deliveries()
  t.equal(deliveries.length, 1000)
  t.equal(deliveries[0]?.type, 'user.updated')
  t.equal(simulator.events.length, 1000)

  const small = (await setUp(t, { maxRemembered: 2 })).simulator
  await small.addWebhookEndpoint({ url: 'http://127.0.0.1:1/' })
  for (const firstName of ['A', 'B', 'C']) await small.createUser({ firstName })
  t.match(small.events, [{ data: { first_name: 'B' } }, { data: { first_name: 'C' } }])
  t.equal((await small.deliveries()).length, 2)
})

t.test('Webhooks cannot leave the machine, and a secret must be one of Svix.', async t => {
  const { simulator } = await setUp(t)
  for (const url of ['http://example.test/', 'http://10.0.0.1/', 'http://127.0.0.1.example.test/', 'http://localhost.example.test/', 'ftp://127.0.0.1/', 'hooks']) {
    await t.rejects(simulator.addWebhookEndpoint({ url }), { statusCode: 422, message: /loopback/ }, url)
  }
  await t.rejects(simulator.addWebhookEndpoint({ url: 'http://127.0.0.1/', secret: 'short' }), { statusCode: 422, message: /whsec_/ })
})

t.test('E-mail addresses, usernames, external ids and ids belong to one user at a time.', async t => {
  const { simulator } = await setUp(t)
  const a = await simulator.createUser({ id: 'user_given', email: 'a@example.test', username: 'a', externalId: 'e1' })
  for (const input of [{ email: 'a@example.test' }, { otherEmails: ['a@example.test'] }, { username: 'a' }, { externalId: 'e1' }, { id: 'user_given' }]) {
    await t.rejects(simulator.createUser(input), { statusCode: 422, code: 'form_identifier_exists' }, JSON.stringify(input))
  }
  await t.rejects(simulator.createUser({ email: '' }), { statusCode: 422, code: 'form_param_value_invalid' })
  await simulator.updateUser(a.id, { email: 'b@example.test' })
  const b = await simulator.createUser({ email: 'a@example.test' })
  t.not(b.primary_email_address_id, a.primary_email_address_id)
  await simulator.deleteUser(a.id)
  t.match(await simulator.updateUser(b.id, { email: 'b@example.test', username: 'a' }), { username: 'a' })
})

t.test('An update keeps what it does not name, and the id of an e-mail address that stays.', async t => {
  const { simulator } = await setUp(t)
  const before = await simulator.createUser({ firstName: 'A', email: 'a@example.test', otherEmails: ['b@example.test'], imageUrl: 'https://img.example.test/a' })
  t.strictSame((await simulator.updateUser(before.id, { lastName: 'L' })).email_addresses, before.email_addresses)
  const swapped = await simulator.updateUser(before.id, { email: 'b@example.test', otherEmails: ['a@example.test'] })
  t.equal(swapped.primary_email_address_id, before.email_addresses[0]?.id)
  t.strictSame(swapped.email_addresses.map(({ id }) => id), before.email_addresses.map(({ id }) => id).reverse())
  const bare = await simulator.updateUser(before.id, { email: null, imageUrl: null, firstName: null, updatedAt: 5 })
  t.match(bare, { email_addresses: [], primary_email_address_id: null, has_image: false, first_name: null, last_name: 'L', updated_at: 5 })
  t.match(await simulator.updateUser(before.id, { otherEmails: ['c@example.test'] }), { primary_email_address_id: null, email_addresses: [{ email_address: 'c@example.test' }] })
  t.equal(before.first_name, 'A', 'a picture handed out before does not change')
})

t.test('No token is minted for an unknown or banned user, or for a session that is over, unknown or of another user.', async t => {
  const { simulator } = await setUp(t)
  const [a, b] = [await simulator.createUser(), await simulator.createUser()]
  const session = await simulator.createSession(a.id)
  await t.rejects(simulator.mintToken({ userId: 'user_nobody' }), { statusCode: 404, code: 'resource_not_found' })
  await t.rejects(simulator.mintToken({ userId: a.id, sessionId: 'sess_unknown' }), { statusCode: 404, code: 'resource_not_found' })
  await t.rejects(simulator.mintToken({ userId: b.id, sessionId: session.id }), { statusCode: 404, code: 'resource_not_found' })
  await simulator.signOut({ userId: a.id, how: 'revoked' })
  await t.rejects(simulator.mintToken({ userId: a.id, sessionId: session.id }), { statusCode: 422, message: /is revoked/ })
  await t.rejects(simulator.signOut({ userId: a.id, sessionId: session.id }), { statusCode: 422, code: 'session_not_active' })
  await t.rejects(simulator.signOut({ userId: 'user_nobody' }), { statusCode: 404, code: 'resource_not_found' })
  t.not(decodeJwt(await simulator.mintToken({ userId: a.id }))['sid'], session.id, 'signing in again opens a new session')
  await simulator.banUser(b.id)
  await t.rejects(simulator.mintToken({ userId: b.id }), { statusCode: 422, code: 'user_banned' })
})

t.test('The control routes do what the programmatic API does.', async t => {
  const { clerk, simulator } = await setUp(t)
  const { url } = await receiver(t)
  const call = async (method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, payload?: object) => {
    const response = await clerk.inject({ method, url: `/control${path}`, ...payload !== undefined && { payload } })
    return { status: response.statusCode, body: response.body === '' ? null : response.json() }
  }
  const endpoint = await call('POST', '/webhook-endpoints', { url, secret: simulator.webhookSecret })
  t.match(endpoint, { status: 201, body: { id: /^ep_/, url, events: null } })
  const created = await call('POST', '/users', { firstName: 'A', email: 'a@example.test', publicMetadata: { a: 1 } })
  t.match(created, { status: 201, body: { first_name: 'A' } })
  const id: string = created.body.id
  t.match(await call('PATCH', `/users/${id}`, { firstName: null }), { status: 200, body: { first_name: null } })
  t.match(await call('POST', `/users/${id}/ban`), { status: 200, body: { banned: true } })
  t.match(await call('POST', `/users/${id}/unban`), { status: 200, body: { banned: false } })
  const session = await call('POST', '/sessions', { userId: id })
  t.match(session, { status: 201, body: { user_id: id, status: 'active' } })
  const minted = await call('POST', '/tokens', { userId: id, sessionId: session.body.id, lifetimeSeconds: 3600, claims: { plan: 'pro' } })
  t.match(decodeJwt(minted.body.token), { sub: id, sid: session.body.id, plan: 'pro' })
  t.match(await call('POST', '/sign-out', { userId: id, how: 'revoked' }), { status: 200, body: [{ status: 'revoked' }] })
  t.strictSame(await call('DELETE', `/users/${id}`), { status: 204, body: null })
  t.match(await call('DELETE', `/users/${id}`), { status: 404, body: { errors: [{ code: 'resource_not_found' }] } })
  t.strictSame((await call('GET', '/deliveries')).body.map(({ type }: { readonly type: string }) => type), [
    'user.created', 'user.updated', 'user.updated', 'user.updated', 'session.created', 'session.revoked', 'user.deleted'
  ])
  t.strictSame(await call('DELETE', `/webhook-endpoints/${endpoint.body.id}`), { status: 204, body: null })
  t.match((await call('GET', '/request-counts')).body, { 'POST /control/users': 1, 'DELETE /control/users/:id': 2 })

  for (const [path, payload] of [['/users', { firstname: 'typo' }], ['/users', { email: 1 }], ['/tokens', {}], ['/tokens', { userId: id, lifetimeSeconds: '60' }], ['/sign-out', { userId: id, how: 'gone' }]] as const) {
    t.match(await call('POST', path, payload), { status: 400, body: { errors: [{ code: 'request_body_invalid' }] } }, `${path} ${JSON.stringify(payload)}`)
  }
})

t.test('A defect is a plain 500, not a refusal in the words of Clerk.', async t => {
  const clerk = await clerkSimulator()
  t.teardown(() => clerk.close())
  t.match(await clerk.inject('/control/instance'), { statusCode: 500, body: /has no address yet/ })
})

t.test('It listens on loopback addresses only, unless remote access is allowed.', async t => {
  const { clerk } = await setUp(t)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'example.test']) await t.rejects(async () => await clerk.listen({ port: 0, host }), /must be a loopback address/, host)
  await t.resolves(clerk.listen({ port: 0 }))
  const open = await setUp(t, { allowRemote: true })
  await t.resolves(open.clerk.listen({ port: 0, host: '0.0.0.0' }))
})

/** The process as the program sees it, with signals at hand. */
function surroundings () {
  const written: string[] = []
  const signals = new Map<string, () => void>()
  const stream = { write: (text: string) => written.push(text) }
  let tell: () => void = () => {}
  const started = new Promise<void>(resolve => { tell = resolve })
  return {
    written,
    signals,
    started,
    process: { stdout: { write: (text: string) => { written.push(text); tell() } }, stderr: stream, once: (signal: string, callback: () => void) => signals.set(signal, callback) }
  }
}

t.test('The program takes its address and keys from the environment and ends on a signal.', async t => {
  const { written, signals, started, process: fake } = surroundings()
  const ended = startSimulator({ PORT: '0', ISSUER: 'https://clerk.example.test', CLERK_SECRET_KEY: 'sk_test_x', CLERK_WEBHOOK_SECRET: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }, fake)
  await started
  const address = /http:\/\/127\.0\.0\.1:\d+/.exec(written.join(''))?.[0]
  t.match(await (await fetch(`${address}/control/instance`)).json(), { issuer: 'https://clerk.example.test', secretKey: 'sk_test_x', apiUrl: `${address}/v1` })
  const inUse = surroundings()
  t.equal(await startSimulator({ PORT: new URL(String(address)).port }, inUse.process), 1)
  t.match(inUse.written.join(''), /could not start on 127\.0\.0\.1:\d+.*EADDRINUSE/)
  signals.get('SIGTERM')?.()
  t.equal(await ended, 0)
})

t.test('The program refuses a port that is none and a host that is not loopback.', async t => {
  for (const [env, message] of [[{ PORT: 'http' }, /PORT must be an integer/], [{ PORT: '65536' }, /PORT must be/], [{ PORT: '0', HOST: '0.0.0.0' }, /loopback/]] as const) {
    const { written, process: fake } = surroundings()
    t.equal(await startSimulator(env, fake), 1)
    t.match(written.join(''), message)
  }
})

t.test('The program runs as a process of its own until SIGINT.', async t => {
  const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL('../src/main.ts', import.meta.url))], { env: { ...process.env, PORT: '0', HOST: '127.0.0.1' } })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = await once(child.stdout, 'data')
  t.match(String(line), /Clerk simulator at http:\/\/127\.0\.0\.1:\d+/)
  child.kill('SIGINT')
  t.strictSame(await once(child, 'exit'), [0, null])
})

t.test('a web page reaches nothing, neither by a name that leads to loopback nor by its own origin', async t => {
  const clerk = await clerkSimulator({ issuer: 'https://clerk.example' })
  t.teardown(() => clerk.close())
  const post = { method: 'POST', url: '/control/users', payload: {} } as const
  t.equal((await clerk.inject({ ...post, headers: { host: 'evil.example' } })).statusCode, 422)
  t.equal((await clerk.inject({ ...post, headers: { host: 'localhost:4010', origin: 'http://evil.example' } })).statusCode, 422)
  t.equal(clerk.simulator.countUsers({}), 0)
})

t.test('A key can be rotated, with and without overlap and under the same kid, and withdrawn; tokens are signed by the latest.', async t => {
  const { clerk, simulator } = await setUp(t)
  const user = await simulator.createUser()
  const verifies = async (token: string): Promise<boolean> => await compactVerify(token, createLocalJWKSet({ keys: [...simulator.jwks.keys] })).then(() => true, () => false)
  const kids = (): readonly string[] => simulator.jwks.keys.map(({ kid }) => kid)
  const before = await simulator.mintToken({ userId: user.id })

  const kid = await simulator.rotateKey()
  t.strictSame(kids(), [kid, simulator.instanceId])
  const after = await simulator.mintToken({ userId: user.id })
  t.equal(decodeProtectedHeader(after).kid, kid)
  t.strictSame([await verifies(before), await verifies(after)], [true, true])

  t.equal((await clerk.inject({ method: 'DELETE', url: `/control/keys/${simulator.instanceId}` })).statusCode, 204)
  t.strictSame([await verifies(before), await verifies(after)], [false, true])
  t.equal((await clerk.inject({ method: 'DELETE', url: '/control/keys/ins_unknown' })).statusCode, 404)

  const [old] = simulator.jwks.keys
  t.strictSame((await clerk.inject({ method: 'POST', url: '/control/keys', payload: { kid, overlap: false } })).json(), { kid })
  t.strictSame(kids(), [kid])
  t.not(simulator.jwks.keys[0]?.n, old?.n)
  t.strictSame([await verifies(after), await verifies(await simulator.mintToken({ userId: user.id }))], [false, true])
  t.match((await clerk.inject({ method: 'POST', url: '/control/keys', payload: {} })).json(), { kid: /^ins_/ })
  t.equal((await clerk.inject({ method: 'POST', url: '/control/keys', payload: { size: 1 } })).statusCode, 400)
})

t.test('Every fault of an endpoint is what it says, and the others are not touched.', async t => {
  const { clerk, simulator } = await setUp(t)
  const origin = await clerk.listen({ port: 0, host: '127.0.0.1' })
  const jwks = async (): Promise<Response> => await fetch(simulator.jwksUrl, { redirect: 'manual', signal: AbortSignal.timeout(400) })
  const fault = async (payload: EndpointFault): Promise<void> => {
    t.strictSame((await clerk.inject({ method: 'PUT', url: '/control/faults/jwks', payload })).json(), payload)
  }
  const body = async (): Promise<string> => await (await jwks()).text()

  await fault({ kind: 'reset' })
  await t.rejects(jwks(), { message: 'fetch failed' })
  await fault({ kind: 'hang' })
  await t.rejects(jwks(), { name: 'TimeoutError' })
  await fault({ kind: 'trickle' })
  t.equal((await jwks()).status, 200, 'the headers come at once')
  await t.rejects(body(), { name: 'TimeoutError' }, 'the body never ends')
  await fault({ kind: 'status', status: 503, retryAfterSeconds: 7 })
  t.match(await jwks(), { status: 503 })
  t.equal((await jwks()).headers.get('retry-after'), '7')
  await fault({ kind: 'status', status: 500 })
  t.equal((await jwks()).headers.get('retry-after'), null)
  await fault({ kind: 'garbage' })
  t.equal(await body(), '{"keys":[')
  await fault({ kind: 'html' })
  t.match(await body(), /^<!doctype html>/)
  await fault({ kind: 'empty' })
  t.equal(await body(), '')
  await fault({ kind: 'object' })
  t.equal(await body(), '{}')
  await fault({ kind: 'huge', bytes: 100_000 })
  t.match(JSON.parse(await body()), { keys: [], fill: 'x'.repeat(100_000) })
  await fault({ kind: 'huge', bytes: 1_000_000, gzip: true })
  const packed = await new Promise<IncomingMessage>(resolve => { get(simulator.jwksUrl, resolve) })
  let sent = 0
  for await (const chunk of packed) sent += (chunk as Buffer).length
  t.ok(packed.headers['content-encoding'] === 'gzip' && sent < 10_000, `${sent} bytes are sent`)
  await fault({ kind: 'redirect', location: '/elsewhere' })
  t.equal((await jwks()).headers.get('location'), '/elsewhere')
  await fault({ kind: 'slow', delayMs: 50 })
  const startedAt = performance.now()
  t.match(JSON.parse(await body()), { keys: [{ kid: simulator.instanceId }] })
  t.ok(performance.now() - startedAt >= 45)

  t.match((await clerk.inject('/control/faults')).json(), { jwks: { kind: 'slow', delayMs: 50 }, users: null, webhooks: null })
  const users = async (): Promise<number> => (await fetch(`${origin}/v1/users`, { headers: { authorization: `Bearer ${simulator.secretKey}` } })).status
  t.equal(await users(), 200, 'the users are not touched')
  simulator.faults.users.set({ kind: 'status', status: 429 })
  t.equal(await users(), 429)
  t.equal((await clerk.inject({ method: 'DELETE', url: '/control/faults/jwks' })).statusCode, 204)
  t.match(JSON.parse(await body()), { keys: [{ kid: simulator.instanceId }] })
  for (const payload of [{ kind: 'slow' }, { kind: 'unknown' }, { kind: 'huge' }, { kind: 'reset', more: 1 }, { kind: 'inconsistent' }]) {
    t.equal((await clerk.inject({ method: 'PUT', url: '/control/faults/jwks', payload })).statusCode, 400, JSON.stringify(payload))
  }
  t.equal((await clerk.inject({ method: 'PUT', url: '/control/faults/other', payload: { kind: 'reset' } })).statusCode, 404)
})

t.test('Closing ends the requests that a fault holds.', async t => {
  const { clerk, simulator } = await setUp(t)
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  for (const [index, fault] of ([{ kind: 'hang' }, { kind: 'slow', delayMs: 60_000 }] as const).entries()) {
    simulator.faults.jwks.set(fault)
    const held = fetch(simulator.jwksUrl).then(({ status }) => status, () => 'ended')
    while (simulator.requestCounts['GET /.well-known/jwks.json'] !== index + 1) await new Promise(resolve => { setImmediate(resolve) })
    simulator.faults.jwks.close()
    t.equal(await held, fault.kind === 'hang' ? 'ended' : 200)
  }
})
