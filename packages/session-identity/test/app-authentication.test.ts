import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { clerkPlugin, getAuth } from '@clerk/fastify'
import fastifyJwt, { type FastifyJWTOptions } from '@fastify/jwt'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { SourceUnavailable, anonymous, sessionHub, unavailable } from '@orientor/session-contract'
import { ManualClock } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import { fastify, type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import sessionIdentity, { fromClerk, fromJwt, type FromClerkOptions, type FromJwtOptions, type Identify, type SessionIdentityOptions } from '../src/index.js'
import { hostileTokens } from './fixtures/hostile-tokens.js'
import { audience, forge, hmac, issuer, party, rsaKey, sessionClaims, sessionToken } from './fixtures/token-issuer.js'

const key = rsaKey('ins_1')
const another = rsaKey('ins_1')
const pem = key.publicKey.export({ format: 'pem', type: 'spki' }) as string
const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` })

function routes (app: FastifyInstance): void {
  const answer = (request: FastifyRequest): object => ({ subject: request.identity?.subject ?? null, session: request.identity?.sessionId ?? null, outcome: request.sessionOutcome?.kind })
  app.get('/open', answer)
  app.get('/closed', { config: { session: { required: true } } }, answer)
}

async function statusOf (app: FastifyInstance, headers: Record<string, string | string[]>, url = '/closed'): Promise<string> {
  const response = await app.inject({ url, headers })
  return `${response.statusCode} ${/error="([a-z_]+)"/.exec(String(response.headers['www-authenticate']))?.[1] ?? ''}`.trim()
}

async function withJwt (t: Test, jwt: Partial<FastifyJWTOptions> = {}, options: FromJwtOptions = {}): Promise<FastifyInstance> {
  const app = fastify()
  await app.register(fastifyJwt, { secret: { public: pem }, ...jwt } as FastifyJWTOptions)
  await app.register(sessionIdentity, { identify: fromJwt({ issuer, ...options }) })
  routes(app)
  app.get('/user', request => request.user as object)
  t.teardown(async () => { await app.close() })
  return app
}

t.test('fromJwt names the user of a token that the application\'s own @fastify/jwt verifies, and its results are those of the table.', async t => {
  const clock = new ManualClock({ now: Date.now() })
  const app = await withJwt(t, {}, { clock, updatedAtClaim: 'updated_at' })
  const token = (more: object = {}, by = key): string => sessionToken(by, clock.now(), more)
  t.match((await app.inject({ url: '/closed', headers: bearer(token()) })).json(), { subject: 'user_1', session: 'sess_1', outcome: 'identified' })
  t.match((await app.inject({ url: '/user', headers: bearer(token()) })).json(), { sub: 'user_1' }, 'request.user is set as jwtVerify() does')
  const table: ReadonlyArray<readonly [name: string, headers: Record<string, string | string[]>, expected: string]> = [
    ['none', {}, '401'],
    ['another scheme', { authorization: 'Basic dXNlcjpwYXNz' }, '401'],
    ['pending', bearer(token({ sts: 'pending' })), '401'],
    ['two headers', { authorization: [`Bearer ${token()}`, `Bearer ${token()}`] }, '400 invalid_request'],
    ['no token', { authorization: 'Bearer' }, '400 invalid_request'],
    ['an empty header', { authorization: '' }, '401'],
    ['a tab', { authorization: `Bearer\t${token()}` }, '400 invalid_request'],
    ['two tokens', bearer(`${token()} ${token()}`), '400 invalid_request'],
    ['no b64token', bearer('a,b'), '400 invalid_request'],
    ['garbage', bearer('garbage'), '401 invalid_token'],
    ['expired', bearer(token({ exp: clock.now() / 1000 - 60 })), '401 invalid_token'],
    ['another key', bearer(token({}, another)), '401 invalid_token'],
    ['another issuer', bearer(token({ iss: 'https://evil.example' })), '401 invalid_token']
  ]
  for (const [name, headers, expected] of table) {
    t.equal(await statusOf(app, headers), expected, name)
    t.equal(await statusOf(app, headers, '/open'), '200', `${name}, where no session is required`)
  }
  t.match(app.sessionIdentity.stats(), { verified: 2, refused: 18, unavailable: 0, hits: 0, cachedTokens: 0 })
  t.match(await sessionHub(app).components[0]!.health(), { status: 'healthy', reason: 'Tokens are verified by the application' })
  t.throws(() => app.sessionIdentity.identify(token()), { code: 'ORI_IDENTITY_NOT_BY_TOKEN' })
})

t.test('With fromJwt every hostile token is refused, but for what the configuration of @fastify/jwt decides; none is a 5xx.', async t => {
  const clock = new ManualClock({ now: Math.floor(Date.now() / 1000) * 1000 })
  for (const strict of [false, true]) {
    const app = await withJwt(t,
      strict ? { verify: { algorithms: ['RS256'], requiredClaims: ['exp'], cache: true } } : {},
      { clock, audience, authorizedParties: [party] })
    t.equal(await statusOf(app, bearer(sessionToken(key, clock.now()))), '200')
    const accepted: string[] = []
    for (const { name, token } of hostileTokens(key, clock.now())) {
      const status = await statusOf(app, bearer(token))
      if (!/^4/.test(status)) accepted.push(`${name} ${status}`)
    }
    const anyKid = ['the right key under a wrong kid', 'no kid where there are two keys', 'kid ', 'kid ../../dev/null', 'kid __proto__', 'kid constructor', 'kid \' OR 1=1', 'kid aaaaaaaaaaaaaaaaaaaa']
    t.same(accepted.map(name => name.replace(/ 200$/, '')), strict
      ? anyKid
      : ['RS384, which is not on the list', 'RS512, which is not on the list', 'PS256, which is not on the list', ...anyKid])
  }
})

t.test('fromJwt serves what verify: \'fastify-jwt\' cannot: secrets that are functions, trusted, a namespace, tokens in other places.', async t => {
  const now = Date.now()
  const token = sessionToken(key, now)
  const secret = async (_request: FastifyRequest, { header }: { header: { kid: string } }): Promise<string> => {
    if (header.kid === 'down') throw new SourceUnavailable('The keys cannot be had', { retryAfterMs: 7000 })
    if (header.kid === 'failed') throw new TypeError('fetch failed')
    if (header.kid === 'unknown') throw Object.assign(new Error('no such key'), { statusCode: 401 })
    return pem
  }
  const dynamic = await withJwt(t, { decode: { complete: true }, secret } as unknown as FastifyJWTOptions, { algorithms: ['RS256'] })
  dynamic.log.level = 'silent'
  const by = (kid: string): Record<string, string> => bearer(forge(key, { header: { alg: 'RS256', kid }, claims: sessionClaims(now) }))
  t.equal(await statusOf(dynamic, bearer(token)), '200')
  t.equal(await statusOf(dynamic, by('unknown')), '401 invalid_token', 'an error with a status below 500 is a verdict')
  t.equal(await statusOf(dynamic, by('down')), '503')
  t.equal((await dynamic.inject({ url: '/closed', headers: by('down') })).headers['retry-after'], '7')
  t.equal(await statusOf(dynamic, by('failed')), '503', 'what says nothing of the token is unavailable')
  t.match((await dynamic.inject({ url: '/open', headers: by('failed') })).json(), { subject: null, outcome: 'unavailable' })
  t.match(dynamic.sessionIdentity.stats(), { unavailable: 4 })

  const trusting = await withJwt(t, { trusted: (_request, payload) => (payload as { sub: string }).sub === 'user_1', formatUser: payload => ({ id: (payload as { sub: string }).sub }) })
  t.equal(await statusOf(trusting, bearer(token)), '200')
  t.same((await trusting.inject({ url: '/user', headers: bearer(token) })).json(), { id: 'user_1' }, 'formatUser makes request.user, and the identity does not need it')
  t.equal(await statusOf(trusting, bearer(sessionToken(key, now, { sub: 'user_2' }))), '401 invalid_token')

  const named = await withJwt(t, { namespace: 'api' }, { namespace: 'api' })
  t.equal(await statusOf(named, bearer(token)), '200')
  const renamed = await withJwt(t, { namespace: 'api', jwtVerify: 'check' }, { namespace: 'api', jwtVerify: 'check' })
  t.equal(await statusOf(renamed, bearer(token)), '200')

  const elsewhere = await withJwt(t, { verify: { extractToken: request => request.headers['x-token'] as string | undefined } })
  t.equal(await statusOf(elsewhere, { 'x-token': token }), '200')
  t.equal(await statusOf(elsewhere, {}), '400 invalid_request', 'as @fastify/jwt says')
  t.equal(await statusOf(elsewhere, { 'x-token': token, authorization: 'Bearer' }), '400 invalid_request', 'no fall-back from a malformed header')
  const odd = await withJwt(t, { verify: { extractToken: () => 5 as unknown as string } })
  t.equal(await statusOf(odd, {}), '400 invalid_request')

  const cookies = fastify()
  cookies.decorateRequest('cookies', null as never)
  cookies.addHook('onRequest', async request => { (request as unknown as { cookies: object }).cookies = { token: request.headers['x-cookie'] } })
  await cookies.register(fastifyJwt, { secret: { public: pem } as never, cookie: { cookieName: 'token', signed: false } })
  await cookies.register(sessionIdentity, { identify: fromJwt() })
  routes(cookies)
  t.teardown(async () => { await cookies.close() })
  t.equal(await statusOf(cookies, { 'x-cookie': token }), '200')
  t.equal(await statusOf(cookies, {}), '401', 'no cookie is no credentials')
  t.equal(await statusOf(cookies, { 'x-cookie': token, authorization: 'Bearer ' }), '400 invalid_request')
})

t.test('fromJwt works with a shared secret, held to the algorithms it is given.', async t => {
  const secret = 'a secret of the application, long enough'
  const app = await withJwt(t, { secret }, { issuer: 'urn:app', algorithms: ['HS256'], requireExpiry: false })
  t.equal(await statusOf(app, bearer(hmac(secret, { alg: 'HS256' }, { iss: 'urn:app', sub: 'user_1' }))), '200', 'asked for by name, exp is the business of @fastify/jwt')
  t.equal(await statusOf(app, bearer(hmac(secret, { alg: 'HS512' }, { iss: 'urn:app', sub: 'user_1' }))), '401 invalid_token')
  t.equal(await statusOf(app, bearer(hmac('another', { alg: 'HS256' }, { iss: 'urn:app', sub: 'user_1' }))), '401 invalid_token')
  t.throws(() => fromJwt({ algorithms: ['none'] } as unknown as FromJwtOptions), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /fromJwt\(\): option "algorithms"/ })
  t.throws(() => fromJwt({ secret } as FromJwtOptions), { message: /option "secret" is not known/ })
})

t.test('fromJwt without @fastify/jwt, or under other names, is a 500 that tells the fix.', async t => {
  const logged: string[] = []
  for (const options of [{}, { namespace: 'api' }, { jwtVerify: 'check' }]) {
    const app = fastify({ logger: { level: 'error', stream: { write: (line: string) => { logged.push(line) } } } })
    if (options.jwtVerify !== undefined) await app.register(fastifyJwt, { secret: 'x' })
    await app.register(sessionIdentity, { identify: fromJwt(options) })
    routes(app)
    t.equal((await app.inject('/closed')).statusCode, 500)
    t.equal((await app.inject('/open')).statusCode, 200)
    await app.close()
  }
  t.match(logged.join(''), /fromJwt\(\) has nothing to verify requests with/)
  t.match(logged.join(''), /fastify\.jwt\.api/)
})

const clerkHost = 'clerk.example.com'
const publishableKey = `pk_live_${Buffer.from(`${clerkHost}$`).toString('base64')}`
const suffix = createHash('sha1').update(publishableKey).digest('base64url').slice(0, 8)

async function withClerk (t: Test, options: FromClerkOptions = {}) {
  const clerk = await clerkSimulator({ issuer: `https://${clerkHost}` })
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => { await clerk.close() })
  const { simulator } = clerk
  const app = fastify()
  await app.register(clerkPlugin, { hookName: 'onRequest', publishableKey, secretKey: simulator.secretKey, apiUrl: new URL(simulator.apiUrl).origin, telemetry: { disabled: true } })
  await app.register(sessionIdentity, { identify: fromClerk(getAuth, options) })
  routes(app)
  t.teardown(async () => { await app.close() })
  const user = await simulator.createUser()
  const token = async (claims: object = {}, lifetimeSeconds = 60): Promise<string> => await simulator.mintToken({ userId: user.id, lifetimeSeconds, claims: { ...claims } })
  return { app, simulator, user, token }
}

t.test('fromClerk names the user that @clerk/fastify has verified, and its results are those of the table.', async t => {
  const { app, user, token, simulator } = await withClerk(t, { issuer: `https://${clerkHost}`, authorizedParties: ['http://localhost:3000'] })
  const good = await token()
  for (const headers of [bearer(good), { cookie: `__session=${good}; __client_uat=1` }, { cookie: `__session_${suffix}=${good}; __client_uat_${suffix}=1` }]) {
    t.match((await app.inject({ url: '/closed', headers })).json(), { subject: user.id, session: /^sess_/, outcome: 'identified' })
  }
  const table: ReadonlyArray<readonly [name: string, headers: Record<string, string | string[]>, expected: string]> = [
    ['none', {}, '401'],
    ['another scheme', { authorization: 'Basic dXNlcjpwYXNz' }, '401'],
    ['pending', bearer(await token({ sts: 'pending' })), '401'],
    ['a cookie of a session that the browser has left', { cookie: `__session=${good}` }, '401'],
    ['two headers', { authorization: [`Bearer ${good}`, `Bearer ${good}`] }, '400 invalid_request'],
    ['no token, a good cookie', { authorization: 'Bearer', cookie: `__session=${good}; __client_uat=1` }, '400 invalid_request'],
    ['garbage', bearer('garbage'), '401 invalid_token'],
    ['garbage, a good cookie', { ...bearer('garbage'), cookie: `__session=${good}; __client_uat=1` }, '401 invalid_token'],
    ['a machine token', bearer('mt_secret'), '401 invalid_token'],
    ['a scheme in lower case, which Clerk does not read', { authorization: `bearer ${good}` }, '401 invalid_token'],
    ['the same beside a good cookie, which Clerk would take', { authorization: `bearer ${good}`, cookie: `__session=${good}; __client_uat=1` }, '401 invalid_token'],
    ['two spaces beside a good cookie', { authorization: `Bearer  ${good}`, cookie: `__session=${good}; __client_uat=1` }, '401 invalid_token'],
    ['a token without a scheme, which Clerk would take', { authorization: good }, '401'],
    ['an expired token in lower case beside a good cookie', { authorization: `BEARER ${await token({}, -60)}`, cookie: `__session=${good}; __client_uat=1`, 'sec-fetch-site': 'cross-site' }, '401 invalid_token'],
    ['expired', bearer(await token({}, -60)), '401 invalid_token'],
    ['an expired cookie, which is no credentials', { cookie: `__session=${await token({}, -60)}; __client_uat=1` }, '401'],
    ['an unknown kid', bearer(await simulator.mintToken({ userId: user.id, kid: 'ins_x' })), '401 invalid_token'],
    ['another issuer', bearer(await token({ iss: 'https://evil.example' })), '401 invalid_token'],
    ['never expires, which Clerk accepts', bearer(await token({ exp: 9e15 })), '401 invalid_token'],
    ['no exp', bearer(await token({ exp: undefined })), '401 invalid_token'],
    ['another party', bearer(await token({ azp: 'https://evil.example' })), '401 invalid_token'],
    ['a blank subject, which Clerk accepts', bearer(await token({ sub: ' ' })), '401 invalid_token']
  ]
  for (const [name, headers, expected] of table) {
    t.equal(await statusOf(app, headers), expected, name)
    t.equal(await statusOf(app, headers, '/open'), '200', `${name}, where no session is required`)
  }
  t.match(app.sessionIdentity.stats(), { verified: 3, unavailable: 0 })
})

t.test('With fromClerk every hostile token is refused, and none is a 5xx of this package.', async t => {
  const now = Math.floor(Date.now() / 1000) * 1000
  const app = fastify()
  await app.register(clerkPlugin, { hookName: 'onRequest', publishableKey, secretKey: 'sk_test_x', jwtKey: pem, telemetry: { disabled: true } })
  await app.register(sessionIdentity, { identify: fromClerk(getAuth, { issuer, audience, authorizedParties: [party], clock: new ManualClock({ now }) }) })
  routes(app)
  t.teardown(async () => { await app.close() })
  t.equal(await statusOf(app, bearer(sessionToken(key, now))), '200')
  const accepted: string[] = []
  for (const { name, token } of hostileTokens(key, now)) {
    const status = await statusOf(app, bearer(token))
    if (!/^4/.test(status)) accepted.push(`${name} ${status}`)
  }
  t.same(accepted.map(name => name.replace(/ 200$/, '')), [
    'the right key under a wrong kid', 'no kid where there are two keys', 'kid ', 'kid ../../dev/null', 'kid __proto__', 'kid constructor', 'kid \' OR 1=1', 'kid aaaaaaaaaaaaaaaaaaaa',
    'header null 500'
  ], 'with jwtKey there is one key, whatever the kid; and at a header of null @clerk/fastify itself fails')
  const { code } = (await app.inject({ url: '/open', headers: bearer(`${Buffer.from('null').toString('base64url')}.e30.AAAA`) })).json<{ code?: string }>()
  t.notMatch(String(code), /^ORI/, 'before this package is asked')
})

t.test('When Clerk\'s keys cannot be had, a token is unavailable, not refused; a malformed one is refused even then.', async t => {
  const { app, simulator, token } = await withClerk(t)
  simulator.faults.jwks.set({ kind: 'status', status: 500 })
  const response = await app.inject({ url: '/closed', headers: bearer(await token()) })
  t.equal(response.statusCode, 503)
  t.match(response.headers, { 'retry-after': '5' })
  t.equal(await statusOf(app, bearer('e30.bnVsbA.AAAA')), '401 invalid_token')
  const odd = forge(key, { header: { alg: 'RS256', kid: {}, typ: 'JWT' }, claims: sessionClaims(Date.now(), { iss: `https://${clerkHost}` }) })
  t.equal(await statusOf(app, { cookie: `__session=${odd}; __client_uat=1` }), '401', 'what makes @clerk/backend fail is no outage')
})

t.test('fromClerk before @clerk/fastify has looked at the request is a 500 that tells the fix.', async t => {
  const logged: string[] = []
  const app = fastify({ logger: { level: 'error', stream: { write: (line: string) => { logged.push(line) } } } })
  await app.register(clerkPlugin, { publishableKey, secretKey: 'sk_test_x' })
  await app.register(sessionIdentity, { identify: fromClerk(getAuth) })
  routes(app)
  t.teardown(async () => { await app.close() })
  t.equal((await app.inject('/closed')).statusCode, 500)
  t.equal((await app.inject('/open')).statusCode, 200)
  t.match(logged.join(''), /fromClerk\(\) was asked before @clerk\/fastify.*hookName: 'onRequest'/)
  t.throws(() => fromClerk(getAuth, { secretKey: 'x' } as FromClerkOptions), { message: /fromClerk\(\): option "secretKey" is not known/ })
})

t.test('An identifier of the application\'s own may answer at once or later, with anything but a user.', async t => {
  const app = fastify()
  const identify: Identify = request => request.headers['x-later'] === undefined ? anonymous : Promise.resolve(unavailable(1000, new Error('down')))
  await app.register(sessionIdentity, { identify })
  routes(app)
  t.teardown(async () => { await app.close() })
  t.equal(await statusOf(app, {}), '401')
  t.equal(await statusOf(app, { 'x-later': '1' }), '503')
  t.match(app.sessionIdentity.stats(), { verified: 0, refused: 0, unavailable: 1, pending: 0 })
})

t.test('The types of the real packages fit, and neither is loaded by this package.', t => {
  expectTypeOf<typeof getAuth>().toMatchTypeOf<Parameters<typeof fromClerk>[0]>()
  expectTypeOf(fromClerk(getAuth)).toEqualTypeOf<Identify>()
  expectTypeOf<NonNullable<SessionIdentityOptions['identify']>>().toEqualTypeOf<Identify>()
  // @ts-expect-error -- not an algorithm
  expectTypeOf<FromJwtOptions>({ algorithms: ['none'] })
  const { peerDependenciesMeta } = createRequire(import.meta.url)('../package.json') as { peerDependenciesMeta: Record<string, { optional: boolean }> }
  t.strictSame(peerDependenciesMeta, { '@clerk/fastify': { optional: true }, '@fastify/jwt': { optional: true } })
  t.end()
})
