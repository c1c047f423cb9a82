import fastifyJwt from '@fastify/jwt'
import { createIdentity } from '@orientor/session-contract'
import { ManualClock } from '@orientor/test-kit'
import { fastify, type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import sessionIdentity, { TokenVerifier, fromJwt, resolveOptions, trustedIssuers, type FromJwtOptions, type Identify, type SessionIdentityOptions } from '../src/index.js'
import { isClerkIssuer } from '../src/clerk-issuer.js'
import { forge, jwkOf, rsaKey, sessionClaims } from './fixtures/token-issuer.js'

const key = rsaKey('key_1')
const clerkKey = rsaKey('ins_1')
const clock = new ManualClock({ now: Math.floor(Date.now() / 1000) * 1000 })
const oidc = 'https://id.example.com'
const clerk = 'https://clerk.example.com'

const secret = 'a secret of the application, long enough'

/** The two ways to leave signatures to the application's own @fastify/jwt. */
const byJwt: Record<string, (of: FromJwtOptions) => SessionIdentityOptions> = {
  'fromJwt()': of => ({ identify: fromJwt({ clock, ...of }) }),
  "verify: 'fastify-jwt'": of => ({ verify: 'fastify-jwt', clock, ...of as SessionIdentityOptions })
}

/** A verifier for one issuer that publishes both keys. */
function verifierOf (options: SessionIdentityOptions): TokenVerifier {
  const resolved = resolveOptions({ clock, fetch: async () => Response.json({ keys: [jwkOf(key), jwkOf(clerkKey)] }), jwksUrl: 'https://keys.example.com', ...options })
  return new TokenVerifier({ ...resolved, ...trustedIssuers(resolved) })
}

/** Claims of an access token of no provider in particular. */
const claimsOf = (issuer: string, more: object = {}): object => ({ ...sessionClaims(clock.now(), { iss: issuer, sid: undefined, sts: undefined, v: undefined, fva: undefined }), ...more })

/** The subject that the token names, or why it is refused. */
async function found (verifier: TokenVerifier, header: object, claims: object, by = key): Promise<string> {
  const outcome = await verifier.identify(forge(by, { header: { alg: 'RS256', kid: by.kid, ...header }, claims }))
  if (outcome.kind === 'identity') return outcome.subject
  return outcome.kind === 'refused' ? outcome.description : outcome.kind
}

const anotherType = 'The token is of another type'

t.test('typ is a media type: case and application/ do not count, and at+jwt is accepted where an audience is set, from Clerk only by name.', async t => {
  const jwt = [undefined, 'JWT', 'jwt', 'Jwt', 'application/jwt', 'Application/JWT']
  const atJwt = ['at+jwt', 'AT+JWT', 'application/at+jwt', 'APPLICATION/At+Jwt']
  const others = ['', 'JOSE', 'JWE', 'logout+jwt', 'secevent+jwt', 'dpop+jwt', 'application/', 'text/jwt', 'application/application/jwt', 'at+jwt; charset=utf-8', ' JWT', 5, null, ['JWT'], { typ: 'JWT' }]
  const setups: ReadonlyArray<readonly [name: string, options: SessionIdentityOptions, jwt: boolean, atJwt: boolean]> = [
    ['an issuer without an audience', { issuer: oidc }, true, false],
    ['an issuer with an audience', { issuer: oidc, audience: 'api' }, true, true],
    ['Clerk by its host, with an audience', { issuer: clerk, audience: 'api' }, true, false],
    ['Clerk by name, with an audience', { issuer: oidc, provider: 'clerk', audience: 'api' }, true, false],
    ['Clerk, asked for by name', { issuer: clerk, audience: 'api', tokenTypes: ['JWT', 'at+jwt'] }, true, true],
    ['access tokens only', { issuer: oidc, audience: 'api', tokenTypes: ['at+jwt'] }, false, true],
    ['no access tokens', { issuer: oidc, audience: 'api', tokenTypes: ['JWT'] }, true, false],
    ['a host like Clerk\'s that is not', { issuer: clerk, provider: 'other', audience: 'api' }, true, true]
  ]
  for (const [name, options, jwtCounts, atJwtCounts] of setups) {
    const verifier = verifierOf(options)
    const accepted = async (typ: unknown): Promise<string> => await found(verifier, typ === undefined ? {} : { typ }, claimsOf(options.issuer as string, { sid: 'sess_1' }))
    for (const typ of jwt) t.equal(await accepted(typ), jwtCounts ? 'user_1' : anotherType, `${name}: ${typ}`)
    for (const typ of atJwt) t.equal(await accepted(typ), atJwtCounts ? 'user_1' : anotherType, `${name}: ${typ}`)
    for (const typ of others) t.equal(await accepted(typ), anotherType, `${name}: ${JSON.stringify(typ)}`)
  }
  const byKid = verifierOf({ issuer: oidc, audience: 'api' })
  t.equal(await found(byKid, { typ: 'at+jwt' }, claimsOf(oidc, { sid: 'sess_1' }), clerkKey), anotherType, 'a kid that begins with ins_ is of Clerk')
  t.equal(await found(byKid, { typ: 'at+jwt' }, claimsOf(oidc)), 'user_1')
})

t.test('The types count the same with fromJwt and verify: \'fastify-jwt\'.', async t => {
  for (const [name, options] of Object.entries(byJwt)) {
    for (const audience of [undefined, 'api']) {
      const app = await appWith(t, options(audience === undefined ? { issuer: 'urn:app' } : { issuer: 'urn:app', audience }))
      const status = async (typ: string, more: object = {}): Promise<number> => await statusOf(app, signed(app, { iss: 'urn:app', sub: 'user_1', aud: 'api', ...more }, { expiresIn: '10m', header: { typ } }))
      t.equal(await status('JWT'), 200, name)
      t.equal(await status('application/jwt'), 200, name)
      t.equal(await status('at+jwt'), audience === undefined ? 401 : 200, `${name}, audience ${audience}`)
      t.equal(await status('logout+jwt'), 401, name)
      t.equal(await status('JWT', { token_use: 'id' }), 401, name)
      t.equal(await status('JWT', { typ: 'ID' }), 401, name)
    }
  }
})

t.test('A token that is marked as an ID token, or for another use than an API, is refused.', async t => {
  const verifier = verifierOf({ issuer: oidc })
  const marked = ['ID', 'id', 'Serialized-ID', 'Refresh', 'Offline', 'Logout'].map(typ => ({ typ }))
  for (const more of [...marked, { token_use: 'id' }, { at_hash: 'x' }, { c_hash: 'x' }, { events: { 'http://schemas.openid.net/event/backchannel-logout': {} } }]) t.equal(await found(verifier, {}, claimsOf(oidc, more)), 'The token is not an access token', JSON.stringify(more))
  const unmarked: object[] = [{ typ: 'Bearer' }, { typ: 'access' }, { typ: 5 }, { typ: ['ID'] }, { token_use: 'access' }, { token_use: 'ID' }, { nonce: 'n' }]
  for (const more of unmarked) t.equal(await found(verifier, {}, claimsOf(oidc, more)), 'user_1', JSON.stringify(more))
})

t.test('Clerk\'s rules apply to an issuer that is Clerk\'s by name, by its host, or by a kid that begins with ins_, and to no other.', async t => {
  const rows: ReadonlyArray<readonly [name: string, options: SessionIdentityOptions, by: typeof key, ofClerk: boolean]> = [
    ['by name', { issuer: oidc, provider: 'clerk' }, key, true],
    ['by host', { issuer: clerk }, key, true],
    ['by host in development', { issuer: 'https://quiet-cat-12.clerk.accounts.dev' }, key, true],
    ['by the path of a proxy', { issuer: 'https://app.example.com/__clerk' }, key, true],
    ['by kid', { issuer: oidc }, clerkKey, true],
    ['by kid, any issuer', { issuer: 'https://app.example.com' }, clerkKey, true],
    ['not by name', { issuer: clerk, provider: 'other' }, clerkKey, false],
    ['any issuer', { issuer: oidc }, key, false]
  ]
  for (const [name, options, by, ofClerk] of rows) {
    const verifier = verifierOf(options)
    const subject = async (header: object, more: object): Promise<string> => await found(verifier, header, claimsOf(options.issuer as string, { sid: 'sess_1', ...more }), by)
    for (const cat of ['cl_B7d4PD222AAA', 'cl_B7d4PD333AAA', 'category', null, 5]) t.equal(await subject({ cat }, {}), ofClerk ? 'The token is not a session token' : 'user_1', `${name}: cat ${cat}`)
    t.equal(await subject({ cat: 'cl_B7d4PD111AAA' }, {}), 'user_1', name)
    t.equal(await subject({}, { sts: 'pending' }), ofClerk ? 'anonymous' : 'user_1', `${name}: sts`)
    for (const sub of ['mch_2xY', 'mt_2xY', 'oat_2xY', 'ak_2xY', 'oac_2xY']) t.equal(await subject({}, { sub }), ofClerk ? 'The token is not a session token' : sub, `${name}: ${sub}, without cat`)
    for (const sub of ['user_mch_1', 'mch', 'amch_1']) t.equal(await subject({}, { sub }), sub, name)
    for (const sid of [undefined, null, 5]) t.equal(await subject({}, { sid, aud: 'client_1' }), ofClerk ? 'The token is not a session token' : 'user_1', `${name}: neither class nor session, as an ID token`)
    t.equal(await subject({ cat: 'cl_B7d4PD111AAA' }, { sid: undefined }), 'user_1', `${name}: the class tells`)
  }
  const byExternalId = verifierOf({ issuer: clerk, subject: 'external_id' })
  t.equal(await found(byExternalId, {}, claimsOf(clerk, { sid: 'sess_1', external_id: '7' })), '7')
  t.equal(await found(byExternalId, {}, claimsOf(clerk, { sid: 'sess_1', sub: 'mch_1', external_id: '7' })), 'The token is not a session token', 'a machine, whatever claim names the user')
  for (const [address, isClerk] of [
    ['https://clerk.example.com', true], ['https://clerk.example.co.uk/', true], ['https://a-b-1.clerk.accounts.dev', true], ['https://app.example.com/__clerk', true], ['https://app.example.com/x/__clerk/', true],
    ['https://example.com/clerk', false], ['https://clerkish.example.com', false], ['https://app.clerk-example.com', false], ['https://accounts.dev.example.com', false], ['https://id.example.com/__clerk/x', false], ['clerk.example.com', false], ['urn:clerk.', false]
  ] as const) t.equal(isClerkIssuer(address), isClerk, address)
})

t.test('An issuer that is not Clerk without an audience is warned of once, at the start.', async t => {
  const rows: ReadonlyArray<readonly [options: SessionIdentityOptions, issuers: readonly string[]]> = [
    [{ issuer: oidc }, [oidc]], [{ issuer: oidc, audience: 'api' }, []], [{ issuer: clerk }, []], [{ issuer: oidc, provider: 'clerk' }, []], [{ issuer: clerk, provider: 'other' }, [clerk]],
    [{ issuers: [{ issuer: clerk }, { issuer: oidc }, { issuer: 'https://b.example.com', audience: 'b' }, { issuer: 'https://c.example.com' }] }, [oidc, 'https://c.example.com']],
    [{ issuers: [{ issuer: oidc }], audience: 'api' }, []]
  ]
  for (const [options, issuers] of rows) {
    const warned: Array<{ msg: string, issuers: string[] }> = []
    const app = fastify({ logger: { level: 'warn', stream: { write: (line: string) => { warned.push(JSON.parse(line) as { msg: string, issuers: string[] }) } } } })
    await app.register(sessionIdentity, { ...options, clock })
    await app.ready()
    t.same(warned.map(({ issuers }) => issuers), issuers.length === 0 ? [] : [issuers], JSON.stringify(options))
    for (const { msg } of warned) t.match(msg, /option "audience" is not set/)
    await app.close()
  }
})

t.test('The audience may be named by another claim, as Amazon Cognito does, and a user by another than sub.', async t => {
  const verifier = verifierOf({ issuer: oidc, audience: ['client_1', 'client_2'], audienceClaim: 'client_id' })
  for (const [more, expected] of [
    [{ client_id: 'client_1' }, 'user_1'], [{ client_id: ['x', 'client_2'] }, 'user_1'], [{ client_id: 'client_3' }, 'The token is meant for another audience'],
    [{ aud: 'client_1' }, 'The token is meant for another audience'], [{ client_id: undefined }, 'The token is meant for another audience']
  ] as const) t.equal(await found(verifier, {}, claimsOf(oidc, { aud: undefined, ...more })), expected, JSON.stringify(more))
  const nested = verifierOf({ issuer: oidc, audience: 'api', audienceClaim: ['ext', 'aud'], subject: ['ext', 'id'] })
  t.equal(await found(nested, {}, claimsOf(oidc, { ext: { aud: 'api', id: 'ada' } })), 'ada')
  t.equal(await found(nested, {}, claimsOf(oidc, { ext: { aud: 'api' } })), 'The token names no acceptable subject')
  const byOid = verifierOf({ issuer: oidc, subject: 'oid' })
  t.equal(await found(byOid, {}, claimsOf(oidc, { oid: 'f5d0', sub: undefined })), 'f5d0')
  t.equal(await found(byOid, {}, claimsOf(oidc)), 'The token names no acceptable subject', 'sub does not stand in')
})

async function appWith (t: Test, options: SessionIdentityOptions): Promise<FastifyInstance> {
  const app = fastify()
  await app.register(fastifyJwt, { secret })
  await app.register(sessionIdentity, options)
  routes(app)
  t.teardown(async () => { await app.close() })
  await app.ready()
  return app
}

/** A token of the app's own, issued now by the clock of the tests, whatever time they take. */
function signed (app: FastifyInstance, claims: object, options: object = {}): string {
  return app.jwt.sign({ iat: Math.floor(clock.now() / 1000), ...claims }, options)
}

function routes (app: FastifyInstance): void {
  const answer = (request: FastifyRequest): object => ({ key: request.identity?.key ?? null, outcome: request.sessionOutcome?.kind })
  app.get('/open', answer)
  app.get('/closed', { config: { session: { required: true } } }, answer)
}

async function statusOf (app: FastifyInstance, token: string | null, url = '/closed'): Promise<number> {
  return (await app.inject({ url, headers: token === null ? {} : { authorization: `Bearer ${token}` } })).statusCode
}

t.test('Tokens of an app\'s own, without issuer and with a number for a user, are read with a constant issuer and a subject; integers become decimal text.', async t => {
  const home = { issuer: { always: 'my-app' }, subject: 'id' } as const
  for (const [name, options] of Object.entries(byJwt)) {
    const app = await appWith(t, options(home))
    const key = async (claims: object, more: object = { expiresIn: '10m' }): Promise<string | null> => (await app.inject({ url: '/open', headers: { authorization: `Bearer ${signed(app, claims, more)}` } })).json<{ key: string | null }>().key
    for (const [id, expected] of [[7, '7'], [0, '0'], [-1, '-1'], [1e3, '1000'], [9_007_199_254_740_991, '9007199254740991'], ['ada', 'ada'], ['007', '007']] as const) t.equal(await key({ id }), `my-app ${expected}`, `${name}: ${id}`)
    for (const id of [1.5, 9_007_199_254_740_992, 1e21, true, null, [7], { id: 7 }, '', ' ', undefined]) t.equal(await key({ id, name: 'x' }), null, `${name}: ${JSON.stringify(id)}`)
    t.equal(await key({ id: 7, iss: 'my-app' }), 'my-app 7', name)
    for (const iss of ['another-app', 'my-app ', '', null, 5, ['my-app']]) t.equal(await key({ id: 7, iss }), null, `${name}: a token that names another issuer, ${JSON.stringify(iss)}`)
    t.equal(await key({ id: 7 }, {}), null, `${name}: one that never expires`)
    t.equal(await key({ sub: '7' }), null, `${name}: sub does not stand in`)
    const unsafe = Buffer.from('{"id":9007199254740993,"exp":9e9}').toString('base64url')
    t.equal(await statusOf(app, `${Buffer.from('{"alg":"HS256"}').toString('base64url')}.${unsafe}.AAAA`), 401, `${name}: an integer that JavaScript would round names nobody`)
  }
  const lasting = await appWith(t, { identify: fromJwt({ ...home, clock, requireExpiry: false }) })
  t.equal(await statusOf(lasting, signed(lasting, { id: 7 })), 200, 'asked for by name')
  t.equal(await statusOf(lasting, signed(lasting, { id: 7, exp: 1 })), 401)
})

t.test('A token without exp passes in no mode unless it is asked for by name.', async t => {
  const claims = claimsOf(oidc, { exp: undefined })
  t.equal(await found(verifierOf({ issuer: oidc }), {}, claims), 'The token does not expire')
  t.equal(await found(verifierOf({ issuer: oidc, requireExpiry: false }), {}, claims), 'user_1')
  for (const [name, of] of Object.entries(byJwt)) {
    const [strict, lax] = [await appWith(t, of({})), await appWith(t, of({ requireExpiry: false }))]
    const token = signed(strict, { iss: 'urn:app', sub: 'user_1' })
    t.same([await statusOf(strict, token), await statusOf(lax, token)], [401, 200], name)
  }
})

t.test('A claim\'s duration is no timer: tokens of 30 days are allowed.', async t => {
  const month = { iat: clock.now() / 1000, exp: clock.now() / 1000 + 30 * 86_400 }
  t.equal(await found(verifierOf({ issuer: oidc }), {}, claimsOf(oidc, month)), 'The token lives too long')
  t.equal(await found(verifierOf({ issuer: oidc, maxTokenLifetimeMs: 30 * 86_400_000 }), {}, claimsOf(oidc, month)), 'user_1')
  t.equal(await found(verifierOf({ issuer: oidc, maxTokenLifetimeMs: 365 * 86_400_000 }), {}, claimsOf(oidc, month)), 'user_1')
})

t.test('fastify.sessionIdentity.identify() answers invalid_request for whatever is no string, and never throws.', async t => {
  const app = fastify()
  await app.register(sessionIdentity, { issuer: oidc, jwksUrl: 'https://keys.example.com', clock, fetch: async () => Response.json({ keys: [jwkOf(key)] }) })
  t.teardown(async () => { await app.close() })
  const odd: unknown[] = [5, null, undefined, true, {}, [], Buffer.from('a.b.c'), new Uint8Array(9), Symbol('x'), () => 'a.b.c', Object('a.b.c'), { toString: () => 'a.b.c' }, { length: 1e9 }]
  for (const token of odd) t.match(app.sessionIdentity.identify(token as string), { kind: 'refused', error: 'invalid_request' })
  t.match(app.sessionIdentity.identify(''), { kind: 'refused', error: 'invalid_request' })
  t.match(app.sessionIdentity.stats(), { refused: odd.length + 1, cachedTokens: 0 })
})

t.test('An identify of one\'s own may be request.jwtVerify(): no credentials are anonymous, what it refuses is refused with its status.', async t => {
  const obvious: Identify = async request => {
    const { id } = await request.jwtVerify<{ id: number }>()
    return createIdentity({ issuer: 'my-app', subject: String(id) })
  }
  const bySecret: Identify = request => {
    const { id } = request.server.jwt.verify<{ id: number }>(String(request.headers.authorization).slice(7))
    return createIdentity({ issuer: 'my-app', subject: String(id) })
  }
  const forbidding: Identify = async request => {
    await request.jwtVerify()
    throw Object.assign(new Error('not on this network'), { statusCode: 403 })
  }
  const defective: Identify = async request => {
    await request.jwtVerify()
    return (request as unknown as { nothing: { here: never } }).nothing.here
  }
  const forgetful = (async (request: FastifyRequest) => { await request.jwtVerify() }) as unknown as Identify
  const table: ReadonlyArray<readonly [name: string, identify: Identify, none: number, bad: number, expired: number, good: number]> = [
    ['jwtVerify()', obvious, 401, 401, 401, 200], ['fastify.jwt.verify()', bySecret, 401, 401, 401, 200],
    ['one that refuses by a status', forbidding, 401, 401, 401, 403], ['one with a defect', defective, 401, 401, 401, 500], ['one that answers nothing', forgetful, 401, 401, 401, 500]
  ]
  for (const [name, identify, ...expected] of table) {
    const app = await appWith(t, { identify })
    const tokens = [null, `${signed(app, { id: 7 }).slice(0, -4)}AAAA`, signed(app, { id: 7, exp: 1 }), signed(app, { id: 7 }, { expiresIn: '10m' })]
    const statuses: number[] = []
    for (const token of tokens) {
      statuses.push(await statusOf(app, token))
      t.equal(await statusOf(app, token, '/open'), 200, `${name}: a route that does not ask goes on`)
    }
    t.same(statuses, expected, name)
    if (identify === obvious) {
      t.match((await app.inject('/open')).json(), { key: null, outcome: 'anonymous' })
      t.match(app.sessionIdentity.stats(), { verified: 2, refused: 4, unavailable: 0 })
      t.match((await app.inject({ url: '/open', headers: { authorization: 'Bearer' } })).json(), { outcome: 'anonymous' }, 'as @fastify/jwt reads it')
    }
  }
})
