import fastifyJwt, { type FastifyJWTOptions } from '@fastify/jwt'
import { ManualClock, until } from '@orientor/test-kit'
import { fastify, type FastifyInstance, type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import sessionIdentity, { TokenVerifier, fromJwt, resolveOptions, trustedIssuers, type SessionIdentityOptions } from '../src/index.js'
import { afterCooldown } from './fixtures/after-cooldown.js'
import { jwkOf, party, rsaKey, sessionToken } from './fixtures/token-issuer.js'

const [ours, theirs] = [rsaKey('ins_1'), rsaKey('ins_1')]
const issuer = 'https://clerk.example.com'
const otherIssuer = 'https://clerk.other.example'
const clock = new ManualClock({ now: Math.floor(Date.now() / 1000) * 1000 })
const seconds = clock.now() / 1000

const good = (more: object = {}): string => sessionToken(ours, seconds * 1000, { iss: issuer, ...more })
const foreign = (more: object = {}): string => sessionToken(theirs, seconds * 1000, { iss: otherIssuer, ...more })
const expired = (more: object = {}): string => good({ iat: seconds - 600, nbf: seconds - 610, exp: seconds - 540, ...more })
const forged = (more: object = {}): string => sessionToken(theirs, seconds * 1000, { iss: issuer, ...more })
const cookies = (...pairs: readonly string[]): { cookie: string } => ({ cookie: pairs.join('; ') })

interface Setup { readonly app: FastifyInstance, readonly warnings: string[] }

async function setup (t: Test, options: SessionIdentityOptions = {}): Promise<Setup> {
  const warnings: string[] = []
  const app = fastify({ logger: { level: 'warn', stream: { write: (line: string) => { warnings.push((JSON.parse(line) as { msg: string }).msg) } } } }) as unknown as FastifyInstance
  const keys = (url: string): object => ({ keys: [jwkOf(url.startsWith(otherIssuer) ? theirs : ours)] })
  await app.register(sessionIdentity, { issuer, jwksUrl: `${issuer}/keys`, clock, fetch: async url => Response.json(keys(url)), ...options })
  routes(app)
  t.teardown(async () => { await app.close() })
  return { app, warnings }
}

function routes (app: FastifyInstance): void {
  const answer = (request: FastifyRequest): object => ({ subject: request.identity?.subject ?? null, outcome: request.sessionOutcome?.kind })
  app.route({ method: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'], url: '/open', handler: answer })
  app.get('/closed', { config: { session: { required: true } } }, answer)
}

/** Who the request is from, or its outcome, the same on a route that asks and on one that does not. */
async function who (app: FastifyInstance, headers: Record<string, string>): Promise<string> {
  const [open, closed] = [await app.inject({ url: '/open', headers }), await app.inject({ url: '/closed', headers })]
  if (open.statusCode !== 200) return `open ${open.statusCode}`
  const { subject, outcome } = open.json<{ subject: string | null, outcome: string }>()
  const right: Record<string, readonly number[]> = { identified: [200], anonymous: [401], refused: [400, 401], unavailable: [503] }
  if (right[outcome]?.includes(closed.statusCode) !== true) return `closed ${closed.statusCode}`
  return subject ?? outcome
}

t.test('Of the cookies of a request those of the first configured issuer that has any count, of these the newest that verifies, and none is no credentials.', async t => {
  const { app } = await setup(t)
  const table: ReadonlyArray<readonly [name: string, headers: Record<string, string>, expected: string]> = [
    ['one', cookies(`__session=${good()}`), 'user_1'],
    ['one with a suffix', cookies(`__session_Ab12Cd34=${good()}`), 'user_1'],
    ['another issuer\'s beside ours', cookies(`__session=${foreign()}`, `__session_Ab12Cd34=${good()}`), 'user_1'],
    ['the same the other way round', cookies(`__session=${good()}`, `__session_Ab12Cd34=${foreign()}`), 'user_1'],
    ['two instances with suffixes', cookies(`__session_Ab12Cd34=${foreign()}`, `__session_Ef56Gh78=${good()}`), 'user_1'],
    ['an expired one beside a fresh one', cookies(`__session=${expired()}`, `__session_Ab12Cd34=${good({ sub: 'user_2' })}`), 'user_2'],
    ['the newest of two good ones', cookies(`__session=${good({ iat: seconds - 30 })}`, `__session_Ab12Cd34=${good({ iat: seconds - 10, sub: 'user_2' })}`), 'user_2'],
    ['the newest, wherever it stands', cookies(`__session=${good({ iat: seconds - 10, sub: 'user_2' })}`, `__session_Ab12Cd34=${good({ iat: seconds - 30 })}`), 'user_2'],
    ['a forged newer one beside a good one', cookies(`__session=${forged({ sub: 'user_evil' })}`, `__session=${good({ iat: seconds - 5 })}`), 'user_1'],
    ['one from the future beside a good one', cookies(`__session=${forged({ iat: seconds + 3600, exp: seconds + 3660 })}`, `__session=${good()}`), 'user_1'],
    ['one without iat beside a good one', cookies(`__session=${forged({ iat: undefined })}`, `__session=${good()}`), 'user_1'],
    ['an iat that is no number beside a good one', cookies(`__session=${forged({ iat: 'now' })}`, `__session=${good()}`), 'user_1'],
    ['a cookie of another use', cookies('__session=%7B%22theme%22%3A1%7D'), 'anonymous'],
    ['three parts that are no token', cookies('__session=a.b.c'), 'anonymous'],
    ['another issuer\'s alone', cookies(`__session=${foreign()}`), 'anonymous'],
    ['an expired one alone', cookies(`__session=${expired()}`), 'anonymous'],
    ['a pending session, though an older one is good', cookies(`__session=${good({ sts: 'pending' })}`, `__session=${good({ iat: seconds - 30, sub: 'user_2' })}`), 'anonymous'],
    ['another scheme beside our cookie', { authorization: 'Basic dXNlcjpwYXNz', ...cookies(`__session=${good()}`) }, 'user_1'],
    ['an empty header beside our cookie', { authorization: '', ...cookies(`__session=${good()}`) }, 'user_1'],
    ['a refused bearer token beside our cookie', { authorization: `Bearer ${expired()}`, ...cookies(`__session=${good()}`) }, 'refused'],
    ['an opaque bearer token beside our cookie', { authorization: 'Bearer opaque', ...cookies(`__session=${good()}`) }, 'refused'],
    ['a malformed header beside our cookie', { authorization: 'Bearer', ...cookies(`__session=${good()}`) }, 'refused'],
    ['a good bearer token beside another cookie', { authorization: `Bearer ${good({ sub: 'user_2' })}`, ...cookies(`__session=${good()}`) }, 'user_2']
  ]
  for (const round of ['cold', 'warm']) {
    for (const [name, headers, expected] of table) t.equal(await who(app, headers), expected, `${name}, ${round}`)
  }
  const alone = cookies(`__session=${forged()}`)
  const outcome = async (): Promise<string> => (await app.inject({ url: '/open', headers: alone })).json<{ outcome: string }>().outcome
  t.equal(await outcome(), 'unavailable', 'a forged one alone, while its key may be new')
  await afterCooldown(clock)
  t.equal(await outcome(), 'anonymous', 'a forged one alone, once keys were fetched for it')
})

t.test('With several issuers their order decides, not the age of the cookies, and one whose only cookie is bad hides the next.', async t => {
  const both = (first: string, second: string): SessionIdentityOptions => ({
    issuer: undefined as never,
    jwksUrl: undefined as never,
    issuers: [first, second].map(name => ({ issuer: name, jwksUrl: `${name}/keys` }))
  })
  const { app } = await setup(t, both(issuer, otherIssuer))
  const { app: reversed } = await setup(t, both(otherIssuer, issuer))
  const pair = cookies(`__session=${foreign({ sub: 'user_their' })}`, `__session_Ab12Cd34=${good({ iat: seconds - 30 })}`)
  t.equal(await who(app, pair), 'user_1')
  t.equal(await who(reversed, pair), 'user_their')
  t.equal(await who(app, cookies(`__session=${foreign({ sub: 'user_their' })}`)), 'user_their')
  const stale = cookies(`__session=${expired()}`, `__session_Ab12Cd34=${foreign({ sub: 'user_their' })}`)
  t.equal(await who(app, stale), 'anonymous')
  t.equal(await who(reversed, stale), 'user_their')
})

t.test('At most four signatures are checked for the cookies of a request; what is refused without one, or is known, does not count.', async t => {
  const { app } = await setup(t)
  const forgeries = (count: number): string[] => Array.from({ length: count }, (_, index) => `__session=${forged({ jti: `${count} ${index}` })}`)
  const older = good({ iat: seconds - 5, sub: 'user_2' })
  t.equal(await who(app, cookies(...forgeries(3), `__session=${older}`)), 'user_2', 'the fourth')
  const unknown = good({ iat: seconds - 6, sub: 'user_3' })
  const outcome = async (headers: Record<string, string>): Promise<string> => {
    await afterCooldown(clock)
    return (await app.inject({ url: '/open', headers })).json<{ outcome: string }>().outcome
  }
  t.equal(await outcome(cookies(...forgeries(4), `__session=${unknown}`)), 'anonymous', 'the fifth')
  const worthless = Array.from({ length: 40 }, (_, index) => `__session=${expired({ iat: seconds, jti: index })}`)
  t.equal(await who(app, cookies(...worthless, `__session=${unknown}`)), 'user_3', 'expired ones cost nothing')
  t.equal(await who(app, cookies(...forgeries(3), `__session=${older}`)), 'user_2')
  const { refused } = app.sessionIdentity.stats()
  t.equal(await outcome(cookies(...forgeries(4))), 'anonymous')
  await app.inject({ url: '/open', headers: cookies(`__session=${foreign()}`) })
  t.equal(app.sessionIdentity.stats().refused, refused + 1, 'bad cookies count as one refused token, those of others not at all')
})

t.test('A cookie of a known token is found synchronously, without a promise, also beside one that is not good.', async t => {
  const { app } = await setup(t)
  for (let turn = 0; turn < 3; turn++) t.equal(await who(app, cookies(`__session=${good()}`)), 'user_1')
  t.match(app.sessionIdentity.stats(), { verified: 1, hits: 5 })
  const options = resolveOptions({ issuer, jwksUrl: `${issuer}/keys`, clock, fetch: async () => Response.json({ keys: [jwkOf(ours)] }) })
  const verifier = new TokenVerifier({ ...options, ...trustedIssuers(options) })
  const identity = await verifier.identifyCookies([good()], null)
  for (const tokens of [[good()], [good(), expired()], [foreign(), good(), 'a.b.c'], [good({ iat: seconds - 30, sub: 'user_2' }), good()]]) {
    t.equal(verifier.identifyCookies(tokens, null), identity)
  }
})

t.test('A cookie that a key to come may have signed keeps no good one waiting, and is looked at again once that key is there.', async t => {
  const newKey = rsaKey('ins_new')
  let published = [jwkOf(ours)]
  const options = resolveOptions({ issuer, jwksUrl: `${issuer}/keys`, clock, fetch: async () => Response.json({ keys: published }) })
  const { policies, sources } = trustedIssuers(options)
  const verifier = new TokenVerifier({ ...options, policies })
  t.teardown(() => { sources[0]!.close() })
  const second = Math.floor(clock.now() / 1000)
  const mine = (more: object): string => sessionToken(ours, clock.now(), { iss: issuer, iat: second - 5, ...more })
  const byNewKey = sessionToken(newKey, clock.now(), { iss: issuer, sub: 'user_new' })
  const subject = async (tokens: readonly string[]): Promise<string> => {
    const found = await verifier.identifyCookies(tokens, null, true)
    return found.kind === 'identity' ? found.subject : found.kind
  }
  const known = mine({ sub: 'user_known' })
  t.equal(await subject([known]), 'user_known')
  clock.advance(4000) // So that a request might wait for the end of the cooldown.
  const now = async (tokens: readonly string[]): Promise<string> => {
    let answer: string | null = null
    const asked = subject(tokens).then(found => { answer = found })
    await until('an answer at once, while the clock stands', () => answer !== null)
    await asked
    return answer!
  }
  t.equal(await now([byNewKey, known]), 'user_known', 'one that was verified before, inside the cooldown')
  t.equal(await now([byNewKey, mine({ sub: 'user_fresh' })]), 'user_fresh', 'one that the keys at hand verify')
  t.equal(await now([forged({ iat: second }), byNewKey, known]), 'user_known')
  published = [jwkOf(ours), jwkOf(newKey)]
  await afterCooldown(clock)
  t.equal(await subject([byNewKey, known]), 'user_new', 'the newest, once its key is there')
})

t.test('While there are no keys a cookie is unavailable, and no credentials where it is bad whatever the keys.', async t => {
  const { app: down } = await setup(t, { fetch: async () => { throw new TypeError('fetch failed') } })
  t.equal(await who(down, cookies(`__session=${good()}`)), 'unavailable')
  t.equal(await who(down, cookies(`__session=${expired()}`)), 'anonymous')
})

/** The subject that a request to a route without `required: true` names. */
async function subjectOf (app: FastifyInstance, headers: Record<string, string>, method = 'POST'): Promise<string | null> {
  const response = await app.inject({ method: method as 'GET', url: '/open', headers: { host: 'api.example.com', ...headers } })
  return response.json<{ subject: string | null }>().subject
}

const unsafe = ['POST', 'PUT', 'PATCH', 'DELETE'] as const
const crossSite: ReadonlyArray<readonly [name: string, headers: Record<string, string>, counts: boolean]> = [
  ['no browser', {}, true],
  ['the same origin', { 'sec-fetch-site': 'same-origin', origin: 'https://api.example.com' }, true],
  ['the address bar', { 'sec-fetch-site': 'none' }, true],
  ['another site', { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }, false],
  ['a sister site', { 'sec-fetch-site': 'same-site', origin: 'https://blog.example.com' }, false],
  ['another site that hides its origin', { 'sec-fetch-site': 'cross-site' }, false],
  ['an unknown value', { 'sec-fetch-site': 'SAME-ORIGIN' }, false],
  ['another site with a trusted origin', { 'sec-fetch-site': 'same-site', origin: party }, true],
  ['an older browser, the same origin', { origin: 'https://api.example.com' }, true],
  ['an older browser, the same host by another name', { origin: 'https://API.example.com:443' }, true],
  ['an older browser, another origin', { origin: 'https://evil.example' }, false],
  ['an older browser, another port', { origin: 'https://api.example.com:8443' }, false],
  ['an older browser, a hidden origin', { origin: 'null' }, false],
  ['an older browser, a trusted origin', { origin: party }, true],
  ['an older browser, what only begins like a trusted origin', { origin: `${party}.evil.example` }, false],
  ['an older browser, an empty origin', { origin: '' }, false]
]

t.test('On unsafe methods and WebSocket upgrades a cookie is no credentials for a request that another site may have caused; a bearer token is.', async t => {
  const { app } = await setup(t, { authorizedParties: [party] })
  const subject = async (method: string, headers: Record<string, string>): Promise<string | null> => await subjectOf(app, headers, method)
  for (const warm of [false, true]) {
    const token = good({ jti: warm })
    const cookie = cookies(`__session=${token}`)
    if (warm) t.equal(await subject('GET', cookie), 'user_1')
    for (const [name, headers, counts] of crossSite) {
      for (const method of unsafe) t.equal(await subject(method, { ...cookie, ...headers }), counts ? 'user_1' : null, `${method}, ${name}`)
      t.equal(await subject('GET', { ...cookie, ...headers, connection: 'upgrade', upgrade: 'WebSocket' }), counts ? 'user_1' : null, `a WebSocket, ${name}`)
      for (const method of ['GET', 'OPTIONS']) t.equal(await subject(method, { ...cookie, ...headers }), 'user_1', `${method}, which changes nothing, ${name}`)
      t.equal(await subject('POST', { authorization: `Bearer ${token}`, ...headers }), 'user_1', `a bearer token, ${name}`)
    }
  }
})

t.test('An origin counts for the issuer that names it, and without authorizedParties for none.', async t => {
  const { app } = await setup(t)
  const evil = { 'sec-fetch-site': 'cross-site', origin: party }
  t.equal(await subjectOf(app, { ...cookies(`__session=${good()}`), ...evil }), null)
  const { app: two } = await setup(t, {
    issuer: undefined as never,
    jwksUrl: undefined as never,
    issuers: [{ issuer, jwksUrl: `${issuer}/keys`, authorizedParties: ['https://first.example.com'] }, { issuer: otherIssuer, jwksUrl: `${otherIssuer}/keys`, authorizedParties: [party] }]
  })
  const first = good({ azp: 'https://first.example.com' })
  t.equal(await subjectOf(two, { ...cookies(`__session=${first}`), ...evil }), null)
  t.equal(await subjectOf(two, { ...cookies(`__session=${first}`, `__session_Ab12Cd34=${foreign({ sub: 'user_their' })}`), ...evil }), 'user_their')
  t.equal(await subjectOf(two, { ...cookies(`__session=${first}`), 'sec-fetch-site': 'same-site', origin: 'https://first.example.com' }), 'user_1')
})

t.test('Behind a proxy the host is what Fastify takes for it.', async t => {
  const app = fastify({ trustProxy: true })
  await app.register(sessionIdentity, { issuer, jwksUrl: `${issuer}/keys`, clock, fetch: async () => Response.json({ keys: [jwkOf(ours)] }) })
  routes(app)
  t.teardown(async () => { await app.close() })
  const headers = { ...cookies(`__session=${good()}`), host: '10.0.0.7:3000', 'x-forwarded-host': 'api.example.com' }
  t.match((await app.inject({ method: 'POST', url: '/open', headers: { ...headers, origin: 'https://api.example.com' } })).json(), { subject: 'user_1' })
  t.match((await app.inject({ method: 'POST', url: '/open', headers: { ...headers, origin: 'https://10.0.0.7:3000' } })).json(), { subject: null })
})

t.test('A token that @fastify/jwt takes from a cookie is held to the same rules.', async t => {
  const app = fastify()
  app.decorateRequest('cookies', null as never)
  app.addHook('onRequest', async request => { (request as unknown as { cookies: object }).cookies = { token: decodeURIComponent(/token=([^;]+)/.exec(request.headers.cookie ?? '')?.[1] ?? '') } })
  await app.register(fastifyJwt, { secret: { public: ours.publicKey.export({ format: 'pem', type: 'spki' }) as string }, cookie: { cookieName: 'token', signed: false } } as unknown as FastifyJWTOptions)
  await app.register(sessionIdentity, { identify: fromJwt({ issuer, clock, authorizedParties: [party] }) })
  routes(app)
  t.teardown(async () => { await app.close() })
  const subject = async (headers: Record<string, string>): Promise<string | null> => await subjectOf(app, headers)
  for (const [name, headers, counts] of crossSite) {
    t.equal(await subject({ ...cookies(`token=${good()}`), ...headers }), counts ? 'user_1' : null, name)
    t.equal(await subject({ authorization: `Bearer ${good()}`, ...cookies(`token=${good()}`), ...headers }), 'user_1', `a bearer token, ${name}`)
  }
  const encoded = (token: string): string => `token=${token.replaceAll('.', '%2E')}`
  t.equal(await subject({ cookie: encoded(good()), 'sec-fetch-site': 'none' }), 'user_1', 'a percent-encoded cookie')
  t.equal(await subject({ cookie: encoded(good()), 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }), null, 'a percent-encoded cookie from another site')
  for (const [name, token] of Object.entries({ expired: expired(), forged: forged(), 'of another issuer': foreign(), 'no token': 'a.b' })) {
    t.equal(await who(app, cookies(`token=${token}`)), 'anonymous', `a cookie that is ${name}`)
    t.equal(await who(app, { authorization: `Bearer ${token}` }), 'refused', `a bearer token that is ${name}`)
  }
})

t.test('A token that extractToken takes out of a session that a cookie names is ambient; one from a header or the URL is deliberate.', async t => {
  const sessions = new Map([['s1', good()]])
  const app = fastify()
  await app.register(fastifyJwt, {
    secret: { public: ours.publicKey.export({ format: 'pem', type: 'spki' }) as string },
    verify: {
      extractToken: (request: FastifyRequest) => sessions.get(/sid=(\w+)/.exec(request.headers.cookie ?? '')?.[1] ?? '') ??
        request.headers['x-token'] ?? (request.query as { token?: string }).token
    }
  } as unknown as FastifyJWTOptions)
  await app.register(sessionIdentity, { identify: fromJwt({ issuer, clock }) })
  routes(app)
  t.teardown(async () => { await app.close() })
  const evil = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }
  const subject = async (headers: Record<string, string>, url = '/open'): Promise<string | null> => (await app.inject({ method: 'POST', url, headers })).json<{ subject: string | null }>().subject
  t.equal(await subject({ cookie: 'sid=s1' }), 'user_1')
  t.equal(await subject({ cookie: 'sid=s1', ...evil }), null)
  t.equal(await subject({ 'x-token': good(), ...evil }), 'user_1')
  t.equal(await subject(evil, `/open?token=${good()}`), 'user_1')
})

t.test('The first cookie that is accepted without authorizedParties is warned of, once, and nothing else is.', async t => {
  const { app, warnings } = await setup(t)
  const about = (): number => warnings.filter(message => message.includes('authorizedParties')).length
  await who(app, { authorization: `Bearer ${good()}` })
  await who(app, cookies(`__session=${expired()}`))
  t.equal(about(), 0)
  for (let turn = 0; turn < 3; turn++) await who(app, cookies(`__session=${good()}`))
  t.equal(about(), 1)
  const { app: listed, warnings: none } = await setup(t, { authorizedParties: [party] })
  await who(listed, cookies(`__session=${good()}`))
  t.same(none, [])
  const { app: off, warnings: noCookies } = await setup(t, { cookie: false })
  t.equal(await who(off, cookies(`__session=${good()}`)), 'anonymous')
  t.same(noCookies, [])
  const { app: partly, warnings: one } = await setup(t, {
    issuer: undefined as never,
    jwksUrl: undefined as never,
    issuers: [{ issuer, jwksUrl: `${issuer}/keys`, authorizedParties: [party] }, { issuer: otherIssuer, jwksUrl: `${otherIssuer}/keys` }]
  })
  await who(partly, cookies(`__session=${good()}`))
  t.same(one, [])
  await who(partly, cookies(`__session=${foreign()}`))
  t.match(one, [/option "authorizedParties" is not set/])
})
