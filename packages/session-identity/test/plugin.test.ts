import { createHook } from 'node:async_hooks'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import fastifyJwt from '@fastify/jwt'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { ManualClock } from '@orientor/test-kit'
import { defaultRouteSession, requireSessionUser, sessionHub } from '@orientor/session-contract'
import { expectTypeOf } from 'expect-type'
import { fastify, type FastifyInstance, type FastifyRequest } from 'fastify'
import { SignJWT } from 'jose'
import t, { type Test } from 'tap'
import sessionIdentity, { errors, fromJwt, sessionIdentity as named, type SessionIdentity, type SessionIdentityErrorCode, type SessionIdentityOptions, type SessionUser } from '../src/index.js'
import { hostileTokens } from './fixtures/hostile-tokens.js'
import { audience, encode, forge, issuer, jwkOf, party, rsaKey, sessionClaims, sessionToken, type SigningKey } from './fixtures/token-issuer.js'

const key = rsaKey('ins_1')
const another = rsaKey('ins_2')
const pem = key.publicKey.export({ format: 'pem', type: 'spki' }) as string

/** A Fastify server that publishes the keys, as an issuer does. */
async function keyServer (t: Test, ...keys: readonly SigningKey[]): Promise<string> {
  const server = fastify()
  server.get('/.well-known/jwks.json', () => ({ keys: (keys.length === 0 ? [key, another] : keys).map(key => jwkOf(key)) }))
  t.teardown(async () => { await server.close() })
  return await server.listen({ port: 0, host: '127.0.0.1' })
}

function routes (app: FastifyInstance): void {
  const answer = (request: FastifyRequest): object => ({ subject: request.identity?.subject ?? null, outcome: request.sessionOutcome?.kind, user: request.sessionUser })
  app.get('/open', answer)
  app.get('/closed', { config: { session: { required: true } } }, answer)
  app.get('/none', { config: { session: false } }, answer)
}

async function setup (t: Test, options: SessionIdentityOptions = {}): Promise<FastifyInstance> {
  const url = await keyServer(t)
  const app = fastify()
  await app.register(sessionIdentity, { issuer: url, ...options })
  routes(app)
  t.teardown(async () => { await app.close() })
  return app
}

const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` })

t.test('A token of the issuer, signed by jose and checked with keys from a real server, names the request\'s user.', async t => {
  const url = await keyServer(t)
  const app = fastify()
  await app.register(sessionIdentity, { issuer: url })
  routes(app)
  t.teardown(async () => { await app.close() })
  const token = await new SignJWT({ sid: 'sess_1' }).setProtectedHeader({ alg: 'RS256', kid: 'ins_1', typ: 'JWT' }).setIssuer(url).setSubject('user_1').setIssuedAt().setExpirationTime('60s').sign(key.privateKey)
  for (const headers of [bearer(token), { authorization: `bearer ${token}` }, { cookie: `__session=${token}` }, { cookie: `__session_a1b2c3d4=${token}` }]) {
    const response = await app.inject({ url: '/closed', headers })
    t.equal(response.statusCode, 200)
    t.same(response.json(), { subject: 'user_1', outcome: 'identified', user: null })
  }
  t.match(app.sessionIdentity.stats(), { verified: 1, hits: 3, keys: 2, keyFetches: 1, keyFetchFailures: 0 })
  t.match(await app.sessionIdentity.identify(token), { subject: 'user_1' })
  t.match(sessionHub(app).components.map(({ name }) => name), ['sessionIdentity'])
  t.match((await app.inject({ url: '/none', headers: bearer(token) })).json(), { subject: null })
})

t.test('Tokens of the Clerk simulator are accepted as they come, by way of its own keys.', async t => {
  const clerk = await clerkSimulator()
  t.teardown(async () => { await clerk.close() })
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  const app = await setup(t, { issuer: clerk.simulator.issuer })
  const user = await clerk.simulator.createUser({ firstName: 'Ada' })
  const token = await clerk.simulator.mintToken({ userId: user.id })
  t.match((await app.inject({ url: '/closed', headers: bearer(token) })).json(), { subject: user.id })
})

t.test('Every way to be wrong has its status, challenge and problem document.', async t => {
  const clock = new ManualClock({ now: Date.now() })
  const app = await setup(t, { clock, issuer, jwksUrl: `${await keyServer(t)}/.well-known/jwks.json`, audience, authorizedParties: [party] })
  const claims = sessionClaims(clock.now())
  const token = (more: object = {}): string => sessionToken(key, clock.now(), more)
  const table: ReadonlyArray<readonly [name: string, headers: Record<string, string | string[]>, status: number, challenge: RegExp, code: string]> = [
    ['no token', {}, 401, /^Bearer realm="session"$/, 'ORI_SESSION_REQUIRED'],
    ['another scheme', { authorization: 'Basic dXNlcjpwYXNz' }, 401, /^Bearer realm="session"$/, 'ORI_SESSION_REQUIRED'],
    ['a pending session', bearer(token({ sts: 'pending' })), 401, /^Bearer realm="session"$/, 'ORI_SESSION_REQUIRED'],
    ['two tokens', { authorization: [`Bearer ${token()}`, `Bearer ${token()}`] }, 400, /error="invalid_request"/, 'ORI_SESSION_INVALID_REQUEST'],
    ['two tokens in one header', bearer(`${token()}, Bearer ${token()}`), 400, /error="invalid_request"/, 'ORI_SESSION_INVALID_REQUEST'],
    ['no token after the scheme, a good cookie', { authorization: 'Bearer ', cookie: `__session=${token()}` }, 400, /error="invalid_request"/, 'ORI_SESSION_INVALID_REQUEST'],
    ['a cookie that is not good', { cookie: `__session=${token({ exp: 1 })}` }, 401, /^Bearer realm="session"$/, 'ORI_SESSION_REQUIRED'],
    ['garbage', bearer('garbage'), 401, /error="invalid_token", error_description="The token is malformed"/, 'ORI_SESSION_INVALID_TOKEN'],
    ['garbage, a good cookie', { ...bearer('garbage'), cookie: `__session=${token()}` }, 401, /error="invalid_token"/, 'ORI_SESSION_INVALID_TOKEN'],
    ['expired', bearer(token({ exp: clock.now() / 1000 - 60 })), 401, /error_description="The token has expired"/, 'ORI_SESSION_INVALID_TOKEN'],
    ['wrong issuer', bearer(token({ iss: 'https://evil.example' })), 401, /error_description="The issuer of the token is not accepted"/, 'ORI_SESSION_INVALID_TOKEN'],
    ['alg none', bearer(`${encode({ alg: 'none' })}.${encode(claims)}.`), 401, /error="invalid_token"/, 'ORI_SESSION_INVALID_TOKEN'],
    ['alg none with a signature', bearer(forge(key, { header: { alg: 'none', kid: 'ins_1' }, claims })), 401, /error_description="The token is not signed"/, 'ORI_SESSION_INVALID_TOKEN'],
    ['another key', bearer(forge(another, { header: { alg: 'RS256', kid: 'ins_1' }, claims })), 401, /error_description="The signature of the token is not valid"/, 'ORI_SESSION_INVALID_TOKEN'],
    ['payload null', bearer(forge(key, { header: { alg: 'RS256', kid: 'ins_1' }, claims: 'null' })), 401, /error="invalid_token"/, 'ORI_SESSION_INVALID_TOKEN']
  ]
  t.equal((await app.inject({ url: '/closed', headers: bearer(token()) })).statusCode, 200)
  for (const [name, headers, status, challenge, code] of table) {
    if (name === 'another key') clock.advance(5000) // Keys are fetched for it, and that is what refuses it.
    const response = await app.inject({ url: '/closed', headers })
    t.equal(response.statusCode, status, name)
    t.match(response.headers['www-authenticate'], challenge, name)
    t.match(response.headers, { 'cache-control': 'no-store', 'content-type': /^application\/problem\+json/ }, name)
    t.match(response.json(), { status, code }, name)
    t.notMatch(response.body + String(response.headers['www-authenticate']), /user_|evil|sess_/, `${name}: no claim in the answer`)
    if (name === 'another key') clock.advance(5000)
    const open = await app.inject({ url: '/open', headers })
    t.equal(open.statusCode, 200, `${name}, where no session is required`)
  }
  t.equal((await app.inject({ url: `/closed?access_token=${token()}` })).statusCode, 401, 'a token in the query is none')
})

t.test('Two Authorization lines on a real connection are refused.', async t => {
  const app = await setup(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')
  socket.end('GET /closed HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic dXNlcjpwYXNz\r\nauthorization: Bearer a.b.c\r\n\r\n')
  t.match(await text(socket), /^HTTP\/1\.1 400 .*More than one Authorization header/s)
})

t.test('Keys that cannot be had are a 503 with Retry-After and no challenge, and a public route still works.', async t => {
  const log: string[] = []
  const app = fastify({ logger: { level: 'warn', stream: { write: (line: string) => { log.push(line) } } } })
  await app.register(sessionIdentity, { issuer, jwksUrl: 'http://127.0.0.1:1/jwks.json' })
  routes(app)
  t.teardown(async () => { await app.close() })
  const token = sessionToken(key, Date.now())
  const response = await app.inject({ url: '/closed', headers: bearer(token) })
  t.equal(response.statusCode, 503)
  t.match(response.headers, { 'retry-after': '5', 'www-authenticate': undefined })
  t.match((await app.inject({ url: '/open', headers: bearer(token) })).json(), { subject: null, outcome: 'unavailable' })
  t.match(log.join(''), /ORI_IDENTITY_KEYS_UNAVAILABLE/)
  t.notMatch(log.join(''), new RegExp(`user_|${token.slice(-20)}`), 'neither token nor claims are logged')
})

t.test('A known token passes the slot synchronously, without a promise.', async t => {
  const app = await setup(t, { issuer, jwksUrl: `${await keyServer(t)}/.well-known/jwks.json` })
  await app.ready()
  const token = sessionToken(key, Date.now())
  const authorization = `Bearer ${token}`
  const request = { raw: { headers: { authorization }, rawHeaders: ['Host', 'x', 'Authorization', authorization] } } as unknown as FastifyRequest
  const identify = sessionHub(app).slots.identify!
  const identity = await identify(request, defaultRouteSession)
  let promises = 0
  const hook = createHook({ init: (_id, type) => { if (type === 'PROMISE') promises++ } }).enable()
  let same = 0
  for (let turn = 0; turn < 100; turn++) if (identify(request, defaultRouteSession) === identity) same++
  hook.disable()
  t.same([same, promises], [100, 0])
})

t.test('With @fastify/jwt the application\'s own key verifies, in whatever order the two are registered.', async t => {
  for (const jwtFirst of [true, false]) {
    const app = fastify()
    const jwt = async (): Promise<void> => { await app.register(fastifyJwt, { secret: 'a secret of the application, long enough' }) }
    if (jwtFirst) await jwt()
    await app.register(sessionIdentity)
    if (!jwtFirst) await jwt()
    routes(app)
    t.teardown(async () => { await app.close() })
    await app.ready()
    const token = app.jwt.sign({ sub: 'user_1', iss: 'urn:app' }, { expiresIn: '1m' })
    for (let turn = 0; turn < 2; turn++) t.match((await app.inject({ url: '/closed', headers: bearer(token) })).json(), { subject: 'user_1' })
    t.match(app.sessionIdentity.stats(), { hits: 1, verified: 1 })
    t.equal((await app.inject({ url: '/closed', headers: bearer(app.jwt.sign({ sub: 'user_1' })) })).statusCode, 401, 'without an issuer nobody is named')
    t.equal((await app.inject({ url: '/closed', headers: bearer(`${token.slice(0, -4)}AAAA`) })).statusCode, 401)
  }
})

t.test('With @fastify/jwt every hostile token is refused, cold and warm, but for what its own configuration decides.', async t => {
  const clock = new ManualClock({ now: Math.floor(Date.now() / 1000) * 1000 })
  const anyKid = ['the right key under a wrong kid', 'no kid where there are two keys', 'kid ', 'kid ../../dev/null', 'kid __proto__', 'kid constructor', 'kid \' OR 1=1', 'kid aaaaaaaaaaaaaaaaaaaa']
  const configurations = [
    {
      jwt: {},
      ours: {},
      accepted: ['RS384, which is not on the list', 'RS512, which is not on the list', 'PS256, which is not on the list', ...anyKid],
      why: 'it has one key, whatever the kid, and takes all algorithms of that key'
    },
    { jwt: { algorithms: ['RS256' as const] }, ours: { requireExpiry: false }, accepted: [...anyKid, 'exp missing'], why: 'a token that never expires passes only where it is asked for by name' },
    { jwt: { algorithms: ['RS256' as const], requiredClaims: ['exp'], cache: true }, ours: {}, accepted: anyKid, why: 'told so, it refuses the others itself' },
    { jwt: { requiredClaims: ['exp'] }, ours: { algorithms: ['RS256' as const] }, accepted: anyKid, why: 'the list may also be ours' }
  ]
  for (const { jwt, ours, accepted, why } of configurations) {
    for (const warm of [false, true]) {
      const app = fastify()
      await app.register(fastifyJwt, { secret: { public: pem } as never, verify: jwt })
      await app.register(sessionIdentity, { clock, verify: 'fastify-jwt', issuer, audience, authorizedParties: [party], ...ours })
      t.teardown(async () => { await app.close() })
      await app.ready()
      const good = sessionToken(key, clock.now())
      if (warm) t.match(await app.sessionIdentity.identify(good), { kind: 'identity' })
      const hostile = hostileTokens(key, clock.now())
      t.ok(hostile.length >= 150)
      const passed: string[] = []
      for (const { name, token } of hostile) {
        if ((await app.sessionIdentity.identify(token)).kind !== 'refused') passed.push(name)
      }
      t.same(passed, accepted, `${warm ? 'warm' : 'cold'}: ${why}`)
      t.equal(app.sessionIdentity.stats().cachedTokens, accepted.length + (warm ? 1 : 0), 'and no refused one is remembered')
    }
  }
})

t.test('What @fastify/jwt with a maxAge accepts is not remembered: a moment later it may refuse it.', async t => {
  const clock = new ManualClock({ now: Date.now() })
  const app = fastify()
  await app.register(fastifyJwt, { secret: { public: pem } as never, verify: { algorithms: ['RS256'], maxAge: '1h' } })
  await app.register(sessionIdentity, { clock, verify: 'fastify-jwt', issuer })
  t.teardown(async () => { await app.close() })
  await app.ready()
  const token = sessionToken(key, clock.now())
  for (let time = 0; time < 2; time++) t.match(await app.sessionIdentity.identify(token), { kind: 'identity' })
  t.match(app.sessionIdentity.stats(), { hits: 0, verified: 2, cachedTokens: 0 })
})

t.test('No value of a token, good or bad, appears in an answer, a log line, an error or a metric.', async t => {
  const clock = new ManualClock({ now: Math.floor(Date.now() / 1000) * 1000 })
  const canary = 'c4n4ryVa1ue'
  const lines: string[] = []
  const seen: string[] = []
  const claims = sessionClaims(clock.now(), { sub: `user_${canary}`, sid: `sess_${canary}`, jti: canary, email: `${canary}@example.com`, o: { id: canary } })
  const variants: object[] = [
    {}, { iss: `https://${canary}.example` }, { aud: canary }, { azp: `https://${canary}.example` }, { sub: `${canary}\u0000` }, { sub: { [canary]: canary } }, { exp: canary }, { nbf: canary },
    { iat: clock.now() / 1000 + 3600 }, { exp: 1 }, { exp: undefined }, { sts: 'pending' }, { [canary]: canary }
  ]
  const headers: object[] = [
    {}, { kid: canary }, { kid: { [canary]: 1 } }, { alg: canary }, { typ: canary }, { cat: canary }, { crit: [canary] }, { b64: canary }, { jku: `https://${canary}.example` }, { [canary]: canary }
  ]
  const tokens = [
    ...variants.flatMap(more => [key, another].map(by => forge(by, { header: { alg: 'RS256', kid: 'ins_1', typ: 'JWT' }, claims: { ...claims, ...more } }))),
    ...headers.map(more => forge(key, { header: { alg: 'RS256', kid: 'ins_1', typ: 'JWT', ...more }, claims })),
    forge(key, { header: { alg: 'RS256', kid: 'ins_1' }, claims: `{"sub":"${canary}` }), `${canary}.${canary}.${canary}`, canary, `${canary} ${canary}`, `"${canary}"`, `${canary},${canary}`, canary.repeat(1600)
  ]
  const jwksUrl = `${await keyServer(t)}/.well-known/jwks.json`
  const setups: ReadonlyArray<readonly [SessionIdentityOptions, boolean]> = [
    [{ clock, issuer, jwksUrl, audience, authorizedParties: [party] }, false],
    [{ clock, issuer, jwksUrl: 'http://127.0.0.1:1/jwks.json', audience, authorizedParties: [party] }, false],
    [{ clock, verify: 'fastify-jwt', issuer }, true],
    [{ identify: fromJwt({ clock, issuer }) }, true]
  ]
  for (const [options, jwt] of setups) {
    const app = fastify({ logger: { level: 'trace', stream: { write: (line: string) => { lines.push(line) } } } })
    if (jwt) await app.register(fastifyJwt, { secret: { public: pem } as never })
    await app.register(sessionIdentity, options)
    app.get('/open', () => 'open')
    app.get('/closed', { config: { session: { required: true } } }, () => 'closed')
    t.teardown(async () => { await app.close() })
    const statuses = new Set<number>()
    for (const token of tokens) {
      for (const sent of [bearer(token), { cookie: `__session=${token}` }, { cookie: `__session_${canary.slice(0, 8)}=${token}` }]) {
        for (const url of ['/open', '/closed']) {
          const response = await app.inject({ url, headers: sent })
          statuses.add(response.statusCode)
          seen.push(JSON.stringify(response.headers), response.body)
        }
      }
    }
    t.notOk(statuses.has(500))
    for (const { instruments, stats, health } of sessionHub(app).components) {
      seen.push(JSON.stringify([stats(), await health(), instruments.map(({ name, help, read }) => [name, help, read()])]))
    }
    t.ok([...statuses].some(status => status === 200), [...statuses].join())
  }
  t.ok(lines.length > 1000 && seen.length > 1000)
  const signatures = tokens.map(token => token.split('.')[2]?.slice(-20) ?? canary)
  for (const text of [...lines, ...seen]) {
    if (text.includes(canary) || signatures.some(signature => text.includes(signature))) t.fail(text)
  }
})

t.test('Headers over 16 KiB never reach the application.', async t => {
  const app = await setup(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const response = await fetch(`${app.listeningOrigin}/open`, { headers: { authorization: `Bearer ${'x'.repeat(17_000)}` } })
  t.equal(response.status, 431)
})

t.test('Without anything to verify with, or with a secret that is a function, the application does not become ready, and is told the fix.', async t => {
  const bare = fastify()
  bare.register(sessionIdentity)
  await t.rejects(async () => { await bare.ready() }, { code: 'ORI_IDENTITY_NO_VERIFIER', message: /Register it with \{ issuer/ })
  const namespaced = fastify()
  namespaced.register(sessionIdentity, { verify: 'fastify-jwt' })
  namespaced.register(fastifyJwt, { secret: 'a secret', namespace: 'other' })
  await t.rejects(async () => { await namespaced.ready() }, { code: 'ORI_IDENTITY_NO_VERIFIER' })
  const dynamic = fastify()
  let asked = 0
  dynamic.register(sessionIdentity)
  dynamic.register(fastifyJwt, { secret: async () => { asked++; return 'a secret' } })
  await t.rejects(async () => { await dynamic.ready() }, { code: 'ORI_IDENTITY_DYNAMIC_SECRET', message: /verify: 'jwks'/ })
  t.equal(asked, 0)
  for (const app of [bare, namespaced, dynamic]) await app.close()
})

t.test('Wrong options fail the registration, and a second registration in one scope is refused.', async t => {
  const app = fastify()
  t.teardown(async () => { await app.close() })
  await t.rejects(async () => { await app.register(sessionIdentity, { issuer: 5 } as unknown as SessionIdentityOptions) }, { code: 'ORI_CONTRACT_INVALID_OPTION', message: '@orientor/session-identity: option "issuer" must be a non-empty string without white space, or { always: \'such a string\' }; received 5 (number).' })
  const twice = fastify()
  t.teardown(async () => { await twice.close().catch(() => {}) })
  await twice.register(sessionIdentity, { issuer })
  await t.rejects(async () => { await twice.register(sessionIdentity, { issuer }) }, { code: 'ORI_CONTRACT_SLOT_TAKEN' })
})

t.test('A child scope may trust another issuer, and each scope keeps to its own.', async t => {
  const app = await setup(t, { issuer, jwksUrl: `${await keyServer(t)}/.well-known/jwks.json` })
  const other = 'https://other.example.com'
  const jwksUrl = `${await keyServer(t)}/.well-known/jwks.json`
  await app.register(async child => {
    await child.register(sessionIdentity, { issuer: other, jwksUrl })
    child.get('/child', { config: { session: { required: true } } }, request => request.identity?.key)
  })
  const [ours, theirs] = [sessionToken(key, Date.now()), sessionToken(key, Date.now(), { iss: other })]
  const status = async (url: string, token: string): Promise<number> => (await app.inject({ url, headers: bearer(token) })).statusCode
  t.same([await status('/closed', ours), await status('/closed', theirs), await status('/child', ours), await status('/child', theirs)], [200, 401, 401, 200])
})

t.test('One scope may trust several issuers, each by keys of its own from a real server.', async t => {
  const [ours, theirs] = [await keyServer(t), await keyServer(t, another)]
  const clock = new ManualClock({ now: Date.now() })
  const app = fastify()
  await app.register(sessionIdentity, { clock, issuers: [{ issuer: ours }, { issuer: theirs }] })
  app.get('/closed', { config: { session: { required: true } } }, request => request.identity?.key)
  t.teardown(async () => { await app.close() })
  const closed = async (token: string): Promise<string> => (await app.inject({ url: '/closed', headers: bearer(token) })).body
  t.equal(await closed(sessionToken(key, Date.now(), { iss: ours })), `${ours} user_1`)
  t.equal(await closed(sessionToken(another, Date.now(), { iss: theirs })), `${theirs} user_1`)
  clock.advance(5000)
  t.match(await closed(sessionToken(key, Date.now(), { iss: theirs })), /The key of the token is not known/)
  t.match(await closed(sessionToken(another, Date.now(), { iss: 'https://third.example' })), /The issuer of the token is not accepted/)
  t.match(app.sessionIdentity.stats(), { verified: 2, refused: 2, keyFetches: 3 })
})

t.test('Alone the plugin decorates the request, and its types hold.', async t => {
  const app = await setup(t)
  app.get('/user', request => requireSessionUser(request))
  await app.ready()
  t.ok(app.hasRequestDecorator('sessionUser') && app.hasRequestDecorator('identity') && app.hasRequestDecorator('sessionOutcome'))
  t.equal((await app.inject('/user')).statusCode, 401)
  t.equal(named, sessionIdentity)
  t.equal(new errors.NoVerifier().code, 'ORI_IDENTITY_NO_VERIFIER')
  expectTypeOf<FastifyRequest['sessionUser']>().toEqualTypeOf<SessionUser | null>()
  expectTypeOf<FastifyInstance['sessionIdentity']>().toEqualTypeOf<SessionIdentity>()
  expectTypeOf<SessionIdentityErrorCode>().toEqualTypeOf<'ORI_IDENTITY_NO_VERIFIER' | 'ORI_IDENTITY_DYNAMIC_SECRET' | 'ORI_IDENTITY_KEYS_UNAVAILABLE' | 'ORI_IDENTITY_NO_JWT' | 'ORI_IDENTITY_CLERK_TOO_LATE' | 'ORI_IDENTITY_NOT_BY_TOKEN' | 'ORI_IDENTITY_APP_VERIFIER_FAILED'>()
  // @ts-expect-error -- HS256 is no asymmetric algorithm
  expectTypeOf<SessionIdentityOptions>({ issuer, algorithms: ['HS256'] })
})
