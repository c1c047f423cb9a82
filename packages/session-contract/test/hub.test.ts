import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import {
  anonymous, createIdentity, failed, refused, requireSessionUser, sessionHub, SourceUnavailable, unavailable, userOutcome,
  type ActiveRecord, type Component, type Identity, type SessionHubOptions, type SessionOutcome, type Slots, type UserSource
} from '../src/index.js'

const issuer = 'https://id.example.com'
const identity = createIdentity({ issuer, subject: 'u1' })
const record: ActiveRecord = {
  kind: 'active',
  revision: 1,
  sync: 'skipped',
  lastSyncedAtMs: null,
  tokensValidFromMs: 0,
  revokedSessions: [],
  user: { userId: '7', issuer, subject: 'u1', email: null, firstName: null, lastName: null, isActive: true, onboardingCompleted: true, providerUpdatedAt: null, profile: null }
}
const user = userOutcome(record, 'cache', 1, false)

/** A plugin that breaks encapsulation, as fastify-plugin makes them. */
function plugin (work: (fastify: FastifyInstance) => void): FastifyPluginAsync {
  return Object.assign(async (fastify: FastifyInstance) => { work(fastify) }, { [Symbol.for('skip-override')]: true })
}
const fills = <S extends keyof Slots>(slot: S, value: NonNullable<Slots[S]>, owner = `test-${slot}`): FastifyPluginAsync => plugin(fastify => { sessionHub(fastify).fill(slot, owner, value) })

function routes (app: FastifyInstance): void {
  app.get('/optional', async request => ({ user: request.sessionUser?.userId ?? null, outcome: request.sessionOutcome?.kind ?? null, identity: request.identity?.key ?? null }))
  app.get('/required', { config: { session: { required: true } } }, async request => ({ user: request.sessionUser?.userId ?? null }))
  app.get('/off', { config: { session: false } }, async request => ({ outcome: request.sessionOutcome }))
  app.get('/guaranteed', async request => requireSessionUser(request))
}

async function answering (outcome: SessionOutcome | Error | Promise<SessionOutcome>, options: SessionHubOptions = {}): Promise<FastifyInstance> {
  const app = Fastify()
  app.register(plugin(fastify => { sessionHub(fastify, options) }))
  app.register(fills('identify', () => identity))
  app.register(fills('resolve', () => { if (outcome instanceof Error) throw outcome; return outcome }))
  routes(app)
  await app.ready()
  return app
}

t.test('outcome and demand decide between the route and a refusal, as the table says', async t => {
  const table: ReadonlyArray<readonly [outcome: SessionOutcome, required: number, always: number]> = [
    [user, 200, 200], [{ kind: 'identified' }, 200, 200], [anonymous, 401, 200], [refused('invalid_token', 'no'), 401, 401],
    [refused('invalid_request', 'bad'), 400, 400], [{ kind: 'refused', error: null, description: 'no', status: 429 }, 429, 429],
    [{ kind: 'forbidden', reason: 'inactive' }, 403, 200], [unavailable(1500, new Error('x')), 503, 200], [failed(new Error('x')), 500, 200]
  ]
  for (const [outcome, required, always] of table) {
    const app = await answering(outcome)
    t.equal((await app.inject('/required')).statusCode, required, `${outcome.kind}, required`)
    const reply = await app.inject('/optional')
    t.equal(reply.statusCode, 200, `${outcome.kind}: registering a plugin changes no route that does not ask`)
    const hasIdentity = outcome.kind === 'user' || outcome.kind === 'identified'
    t.strictSame(reply.json(), { user: outcome.kind === 'user' ? '7' : null, outcome: outcome.kind, identity: hasIdentity ? identity.key : null })
    t.strictSame((await app.inject('/off')).json(), { outcome: null }, 'session: false')
    const guaranteed = await app.inject('/guaranteed')
    t.equal(guaranteed.statusCode, outcome.kind === 'identified' ? 500 : required, `${outcome.kind}, requireSessionUser`)
    await app.close()
    const strict = await answering(outcome, { refuse: 'always' })
    t.equal((await strict.inject('/optional')).statusCode, always, `${outcome.kind}, refuse: 'always'`)
    t.equal((await strict.inject('/required')).statusCode, required)
    t.strictSame((await strict.inject('/off')).json(), { outcome: null })
    await strict.close()
  }
})

t.test('a route that does not ask goes on whatever the credentials are, with its own method, body and Authorization header', async t => {
  const app = Fastify()
  app.register(fills('identify', request => request.headers.authorization === undefined ? anonymous : refused('invalid_token', 'The token has expired')))
  app.register(fills('resolve', () => user))
  app.post('/signup', async request => ({ body: request.body, user: request.sessionUser, kind: request.sessionOutcome?.kind }))
  app.get('/own', async request => ({ own: request.headers.authorization }))
  const authorization = 'Bearer opaque'
  const signup = await app.inject({ method: 'POST', url: '/signup', headers: { authorization }, payload: { name: 'Ada' } })
  t.strictSame([signup.statusCode, signup.json()], [200, { body: { name: 'Ada' }, user: null, kind: 'refused' }])
  t.strictSame((await app.inject({ url: '/own', headers: { authorization } })).json(), { own: authorization })
  t.equal((await app.inject({ url: '/nowhere', headers: { authorization } })).statusCode, 404)
})

t.test('a refusal is a problem document with the challenge of RFC 6750 and is never stored', async t => {
  const challenges: ReadonlyArray<readonly [SessionOutcome, string | undefined, string]> = [
    [anonymous, 'Bearer realm="session"', 'ORI_SESSION_REQUIRED'],
    [refused('invalid_token', 'The "token" é expired'), 'Bearer realm="session", error="invalid_token", error_description="The token  expired"', 'ORI_SESSION_INVALID_TOKEN'],
    [refused('invalid_request', 'Two tokens'), 'Bearer realm="session", error="invalid_request", error_description="Two tokens"', 'ORI_SESSION_INVALID_REQUEST'],
    [{ kind: 'forbidden', reason: 'inactive' }, undefined, 'ORI_SESSION_INACTIVE'],
    [unavailable(1001, null), undefined, 'ORI_SESSION_UNAVAILABLE']
  ]
  for (const [outcome, challenge, code] of challenges) {
    const app = await answering(outcome)
    const reply = await app.inject('/required')
    t.equal(reply.headers['www-authenticate'], challenge)
    t.equal(reply.headers['content-type'], 'application/problem+json; charset=utf-8')
    t.equal(reply.headers['cache-control'], 'no-store')
    t.match(reply.json(), { type: 'about:blank', title: String, status: reply.statusCode, detail: String, code })
    t.equal(reply.headers['retry-after'], outcome.kind === 'unavailable' ? '2' : undefined)
    const thrown = await app.inject('/guaranteed')
    t.match(thrown.json(), { code })
    t.equal(thrown.headers['www-authenticate'], challenge, 'requireSessionUser sends the same headers')
    await app.close()
  }
})

t.test('a stale user is marked in the reply', async t => {
  const app = await answering(userOutcome(record, 'cache', 1, true))
  t.equal((await app.inject('/required')).headers['x-session-stale'], '1')
  const fresh = await answering(user)
  t.equal((await fresh.inject('/required')).headers['x-session-stale'], undefined)
})

interface Logged { readonly level: number, readonly msg: string, readonly err?: { readonly message: string } }

/** An app that logs into a list. */
function logging (): { readonly app: FastifyInstance, readonly lines: Logged[] } {
  const lines: Logged[] = []
  return { app: Fastify({ logger: { stream: { write: (line: string) => { lines.push(JSON.parse(line) as Logged) } } } }) as unknown as FastifyInstance, lines }
}

t.test('a defect is logged with its cause and answers 500 without it where a session is required; elsewhere the request goes on', async t => {
  const defect = (): never => { throw new Error('SELECT secret') }
  const rejects = (): Promise<never> => Promise.reject(new Error('SELECT secret'))
  const broken: ReadonlyArray<readonly [name: string, slots: Slots]> = [
    ['identify throws', { identify: defect }], ['identify rejects', { identify: rejects }],
    ['resolve throws', { identify: () => identity, resolve: defect }], ['resolve rejects', { identify: () => identity, resolve: rejects }],
    ['a load throws', { identify: () => identity, source: { load: defect } }], ['a load rejects', { identify: () => identity, source: { load: () => [rejects()] } }]
  ]
  for (const [name, slots] of broken) {
    for (const [refuseAs, handler] of [['problem', false], ['error', false], ['error', true]] as const) {
      const { app, lines } = logging()
      if (handler) app.setErrorHandler((error: Error & { code: string, statusCode: number }, _request, reply) => { reply.code(error.statusCode).send({ mine: error.code, cause: (error.cause as Error).message.length }) })
      app.register(plugin(fastify => {
        const hub = sessionHub(fastify, { refuseAs })
        for (const [slot, value] of Object.entries(slots)) hub.fill(slot as keyof Slots, 'broken', value as never)
      }))
      routes(app)
      const logged = (): number => lines.filter(({ level, err }) => level === 50 && err?.message.includes('SELECT secret')).length
      const optional = await app.inject('/optional')
      t.strictSame([optional.statusCode, optional.json()], [200, { user: null, outcome: 'failed', identity: null }], name)
      t.ok(logged() >= 1, `${name}: logged as an error with its cause, also where nobody refuses`)
      const before = logged()
      const required = await app.inject('/required')
      t.equal(required.statusCode, 500)
      t.notMatch(required.body, /secret/)
      t.match(required.json(), handler ? { mine: 'ORI_SESSION_RESOLUTION_FAILED', cause: 13 } : { code: 'ORI_SESSION_RESOLUTION_FAILED' })
      t.ok(logged() > before, `${name}: logged under ${handler ? 'the app\'s own error handler' : refuseAs}`)
      t.equal((await app.inject('/guaranteed')).statusCode, 500)
      await app.close()
    }
  }
})

t.test('what a slot answers that is neither identity nor outcome is a defect that names the slot', async t => {
  const junk: ReadonlyArray<readonly [slot: 'identify' | 'resolve', answer: unknown]> = [
    ['identify', undefined], ['identify', null], ['identify', 'user_1'], ['identify', {}], ['identify', { kind: 'user', user: record.user }], ['identify', Promise.resolve()],
    ['identify', { kind: 'identity' }], ['identify', { kind: 'identity', issuer, subject: 'u1' }], ['identify', { kind: 'identified' }], ['identify', Promise.resolve({ kind: 'identified' })],
    ['identify', { kind: 'refused', error: null, description: 'no', status: 200 }], ['identify', { kind: 'refused', error: null, description: 'no', status: 302 }],
    ['identify', { kind: 'refused', error: null, description: 'no' }], ['identify', { kind: 'refused', error: 'insufficient_scope', description: 'no' }], ['identify', { kind: 'refused', error: 'invalid_token' }],
    ['identify', { kind: 'unavailable', retryAfterMs: NaN }], ['identify', { get kind () { throw new Error('a getter') } }],
    ['resolve', undefined], ['resolve', { kind: 'usr' }], ['resolve', Promise.resolve(null)], ['resolve', { kind: 'user' }], ['resolve', { kind: 'user', user: null }],
    ['resolve', identity], ['resolve', { then: (settle: (value: unknown) => void) => { settle(5) } }]
  ]
  for (const [slot, answer] of junk) {
    const { app, lines } = logging()
    if (slot === 'resolve') app.register(fills('identify', () => identity))
    app.register(fills(slot, (() => answer) as never))
    routes(app)
    t.match((await app.inject('/optional')).json(), { user: null, outcome: 'failed' })
    t.equal((await app.inject('/required')).statusCode, 500)
    t.match(lines.find(({ level }) => level === 50)?.err?.message, new RegExp(`The slot "${slot}" must answer with|a getter`))
    await app.close()
  }
})

t.test('what a slot throws may be odd: a defect, and neither a crash nor a refusal of a route without required: true', async t => {
  const odd: unknown[] = [
    undefined, null, 5, 'text', { get statusCode () { throw new Error('a getter') } }, Object.create(null), { status: { valueOf: () => 401 } }, { statusCode: 600 }
  ]
  for (const thrown of odd) {
    const slots: readonly Slots[] = [
      { identify: () => { throw thrown } }, { identify: async () => { throw thrown } },
      { identify: () => identity, resolve: () => { throw thrown } }, { identify: () => identity, resolve: async () => { throw thrown } }
    ]
    for (const filled of slots) {
      const { app } = logging()
      for (const [slot, value] of Object.entries(filled)) app.register(fills(slot as keyof Slots, value as never))
      routes(app)
      t.match((await app.inject('/optional')).json(), { outcome: 'failed' })
      t.equal((await app.inject('/required')).statusCode, 500)
      await app.close()
    }
  }
})

t.test('identify may throw what a client is to blame for: a refusal with that status', async t => {
  const thrown = (more: object, message = 'token eyJsecret expired'): Error => Object.assign(new Error(message), more)
  const table: ReadonlyArray<readonly [error: unknown, status: number, code: string, challenge: string | undefined]> = [
    [thrown({ statusCode: 401 }), 401, 'ORI_SESSION_INVALID_TOKEN', 'invalid_token'], [thrown({ status: 401 }), 401, 'ORI_SESSION_INVALID_TOKEN', 'invalid_token'],
    [thrown({ statusCode: 400 }), 400, 'ORI_SESSION_INVALID_REQUEST', 'invalid_request'],
    [thrown({ statusCode: 403 }), 403, 'ORI_SESSION_REFUSED', undefined], [thrown({ statusCode: 429 }), 429, 'ORI_SESSION_REFUSED', undefined], [{ statusCode: 404 }, 404, 'ORI_SESSION_REFUSED', undefined],
    [new SourceUnavailable('down'), 503, 'ORI_SESSION_UNAVAILABLE', undefined],
    [thrown({ statusCode: 500 }), 500, 'ORI_SESSION_RESOLUTION_FAILED', undefined], [thrown({ statusCode: '401' }), 500, 'ORI_SESSION_RESOLUTION_FAILED', undefined],
    [thrown({ statusCode: 399.5 }), 500, 'ORI_SESSION_RESOLUTION_FAILED', undefined], [undefined, 500, 'ORI_SESSION_RESOLUTION_FAILED', undefined], [null, 500, 'ORI_SESSION_RESOLUTION_FAILED', undefined]
  ]
  for (const [error, status, code, challenge] of table) {
    for (const identify of [() => { throw error }, async () => { throw error }]) {
      const { app } = logging()
      app.register(fills('identify', identify))
      routes(app)
      const reply = await app.inject('/required')
      t.equal(reply.statusCode, status)
      t.match(reply.json(), { code, status })
      t.equal(/error="(\w+)"/.exec(String(reply.headers['www-authenticate']))?.[1], challenge)
      t.notMatch(reply.body, /eyJsecret/, 'the message of the error is the application\'s own')
      t.equal((await app.inject('/optional')).statusCode, 200, 'and a route that does not ask goes on')
      await app.close()
    }
  }
  const app = Fastify({ logger: false })
  app.register(fills('identify', () => identity))
  app.register(fills('resolve', () => { throw thrown({ statusCode: 404 }) }))
  routes(app)
  t.equal((await app.inject('/required')).statusCode, 500, 'a status thrown while a user is resolved is somebody else\'s: a defect')
})

t.test('refusals may go through the application\'s error handler, as errors with code, status and headers', async t => {
  const outcomes: readonly SessionOutcome[] = [anonymous, refused('invalid_token', 'no'), refused('invalid_request', 'bad'), { kind: 'forbidden', reason: 'inactive' }, unavailable(1500, null), failed(new Error('x'))]
  for (const outcome of outcomes) {
    const [plain, own] = [await answering(outcome), Fastify({ logger: false })]
    own.setErrorHandler((error: Error & { code: string, statusCode: number, headers: Record<string, string> }, _request, reply) => {
      reply.code(error.statusCode).headers(error.headers).send({ error: { code: error.code, text: error.message } })
    })
    own.register(plugin(fastify => { sessionHub(fastify, { refuseAs: 'error' }).fill('identify', 'test', () => identity) }))
    own.register(fills('resolve', () => outcome))
    routes(own)
    const [problem, mine, guaranteed] = [await plain.inject('/required'), await own.inject('/required'), await own.inject('/guaranteed')]
    t.equal(mine.statusCode, problem.statusCode)
    t.equal(mine.json().error.code, problem.json().code)
    for (const header of ['www-authenticate', 'retry-after', 'cache-control']) t.equal(mine.headers[header], problem.headers[header], header)
    t.strictSame([guaranteed.statusCode, guaranteed.json()], [mine.statusCode, mine.json()], 'one format, whoever refuses')
    const bare = await answering(outcome, { refuseAs: 'error' })
    const reply = await bare.inject('/required')
    t.match(reply.json(), { statusCode: problem.statusCode, code: problem.json().code })
    t.equal(reply.headers['www-authenticate'], problem.headers['www-authenticate'], 'Fastify\'s own handler sends the headers')
    for (const app of [plain, own, bare]) await app.close()
  }
})

t.test('an error handler that spreads the error shows no cause, and may add headers of its own', async t => {
  const cause = Object.assign(new Error('down'), { dsn: 'postgres://u:hunter2@db' })
  for (const outcome of [failed(cause), { kind: 'failed', cause } as const, unavailable(5, cause), { kind: 'unavailable', retryAfterMs: 5, cause } as const, refused('invalid_token', 'no')]) {
    const app = Fastify({ logger: false })
    app.setErrorHandler((error: Error & { statusCode: number, headers: Record<string, string> }, request, reply) => {
      error.headers['x-request-id'] = '7'
      return reply.code(error.statusCode).headers(error.headers).send({ ...error, message: error.message, outcome: request.sessionOutcome })
    })
    app.register(plugin(fastify => { sessionHub(fastify, { refuseAs: 'error' }).fill('identify', 'test', () => identity) }))
    app.register(fills('resolve', () => outcome))
    routes(app)
    const reply = await app.inject('/required')
    t.ok(reply.statusCode === 401 || reply.statusCode >= 500)
    t.equal(reply.headers['x-request-id'], '7')
    t.notMatch(reply.body, /hunter2/)
    await app.close()
  }
})

t.test('the options of the hub are one for a scope, whoever gives them, and a child scope may have its own', async t => {
  const app = Fastify()
  app.register(plugin(fastify => { sessionHub(fastify) }))
  app.register(plugin(fastify => { sessionHub(fastify, { refuse: 'always' }) }))
  app.register(plugin(fastify => { sessionHub(fastify, { refuse: 'always', refuseAs: 'error' }) }))
  app.register(fills('identify', () => refused('invalid_token', 'no')))
  app.register(async child => {
    child.register(plugin(fastify => { sessionHub(fastify, { refuse: 'required' }) }))
    child.get('/child', async () => 'in')
    child.get('/child/required', { config: { session: { required: true } } }, async () => 'in')
  })
  routes(app)
  t.equal((await app.inject('/optional')).statusCode, 401)
  t.equal((await app.inject('/child')).statusCode, 200)
  t.match((await app.inject('/child/required')).json(), { statusCode: 401, error: 'Unauthorized' }, 'what a child does not set is inherited')
  t.throws(() => sessionHub(app, { refuseAs: 'problem' }), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /"refuseAs" must be the same for every plugin of one scope; received "problem" after "error"/ })
  t.throws(() => sessionHub(app, { refuze: 'always' } as SessionHubOptions), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /option "refuze" is not known/ })
  t.throws(() => sessionHub(app, { refuse: 'never' as never }), { code: 'ORI_CONTRACT_INVALID_OPTION' })
  const late = await answering(user)
  await late.inject('/optional')
  t.throws(() => sessionHub(late, { refuse: 'always' }), { message: /before the first request/ })
})

t.test('hooks of a scope that were added before its session plugin run before it, whatever other scopes have a hub', async t => {
  const cors = (scope: FastifyInstance): void => {
    scope.addHook('onRequest', async (request, reply) => {
      reply.header('access-control-allow-origin', '*')
      if (request.method === 'OPTIONS') return reply.code(204).send()
    })
  }
  for (const others of ['none', 'a sibling before', 'a sibling after', 'a child before']) {
    const app = Fastify()
    const other = async (scope: FastifyInstance): Promise<void> => { sessionHub(scope).fill('identify', 'other', () => anonymous) }
    if (others === 'a sibling before') app.register(other)
    app.register(async scope => {
      if (others === 'a child before') await scope.register(other)
      cors(scope)
      sessionHub(scope).fill('identify', 'x', () => anonymous)
      scope.route({ method: ['GET', 'OPTIONS'], url: '/r', config: { session: { required: true } }, handler: () => 'in' })
    })
    if (others === 'a sibling after') app.register(other)
    const [refusal, preflight] = [await app.inject('/r'), await app.inject({ method: 'OPTIONS', url: '/r' })]
    t.strictSame([refusal.statusCode, refusal.headers['access-control-allow-origin']], [401, '*'], others)
    t.equal(preflight.statusCode, 204, others)
  }
})

t.test('a hub of a child that was there before its parent\'s acts alone in the child', async t => {
  const app = Fastify()
  const asked: string[] = []
  const asks = (name: string): Slots['identify'] => () => { asked.push(name); return createIdentity({ issuer, subject: name }) }
  await app.register(async child => {
    sessionHub(child).fill('identify', 'child', asks('child')!)
    child.get('/child', { config: { session: { required: true } } }, async request => ({ subject: request.identity?.subject }))
  })
  app.register(fills('identify', asks('parent')!))
  app.get('/parent', async request => ({ subject: request.identity?.subject }))
  t.strictSame((await app.inject('/child')).json(), { subject: 'child' })
  t.strictSame((await app.inject('/parent')).json(), { subject: 'parent' })
  t.strictSame(asked, ['child', 'parent'])
})

t.test('a route that demands a session outside of every hub is refused: at the start where it is seen, else at each request', async t => {
  const required = { config: { session: { required: true } } }
  const hub = (fastify: FastifyInstance): void => { sessionHub(fastify).fill('identify', 'test', () => identity) }
  const placed: ReadonlyArray<readonly [name: string, build: (app: FastifyInstance) => Promise<unknown>]> = [
    ['beside the plugin\'s scope, declared later', async app => { app.register(async scope => { hub(scope) }); app.register(async other => { other.get('/x', required, async () => 'in') }) }],
    ['above it, declared later', async app => { await app.register(async scope => { hub(scope) }); app.get('/x', required, async () => 'in') }],
    ['in another branch', async app => { app.register(async a => { a.register(async b => { hub(b) }) }); app.register(async c => { c.register(async d => { d.post('/x', required, async () => 'in') }) }) }]
  ]
  for (const [name, build] of placed) {
    const app = Fastify()
    await build(app)
    await t.rejects(async () => { await app.ready() }, { code: 'ORI_CONTRACT_ROUTE_OUT_OF_SCOPE', message: /in scope: (GET|POST) \/x/ }, name)
  }
  const unseen: ReadonlyArray<readonly [name: string, build: (app: FastifyInstance) => void]> = [
    ['above it, declared before', app => { app.get('/x', required, async () => 'in'); app.register(async scope => { hub(scope) }) }],
    ['above it, written later: Fastify loads plugins last', app => { app.register(async scope => { hub(scope) }); app.get('/x', required, async () => 'in') }],
    ['beside it, declared before', app => { app.register(async other => { other.get('/x', required, async () => 'in') }); app.register(async scope => { hub(scope) }) }]
  ]
  for (const [name, build] of unseen) {
    const app = Fastify({ logger: false })
    build(app)
    app.get('/mine', { config: { session: { required: 'by another plugin', shape: 'of its own' } as never } }, async request => ({ outcome: 'sessionOutcome' in request }))
    app.get('/plain', async () => 'in')
    const reply = await app.inject('/x')
    t.equal(reply.statusCode, 500, name)
    t.match(reply.json(), { code: 'ORI_CONTRACT_ROUTE_OUT_OF_SCOPE', message: /GET \/x/ })
    t.equal((await app.inject('/plain')).statusCode, 200)
    t.strictSame((await app.inject('/mine')).json(), { outcome: false }, 'what config.session means there is not ours to say')
  }
  const later = Fastify()
  await later.register(async scope => { hub(scope) })
  await later.register(async other => { other.get('/x', required, async request => request.identity?.key) })
  later.register(plugin(hub))
  t.equal((await later.inject('/x')).body, identity.key, 'a hub above it may still come')
})

t.test('a scope that was registered before the plugin beside it is in scope all the same', async t => {
  const app = Fastify()
  app.register(async before => {
    routes(before)
    before.register(async deeper => { deeper.get('/deeper', { config: { session: { required: true } } }, async request => ({ user: request.sessionUser?.userId })) })
  })
  let found: Identity | typeof anonymous = anonymous
  app.register(fills('identify', () => found))
  app.register(fills('resolve', () => user))
  t.equal((await app.inject('/required')).statusCode, 401)
  t.equal((await app.inject('/deeper')).statusCode, 401)
  t.strictSame((await app.inject('/optional')).json(), { user: null, outcome: 'anonymous', identity: null })
  t.strictSame((await app.inject('/off')).json(), { outcome: null })
  found = identity
  t.strictSame((await app.inject('/deeper')).json(), { user: '7' })
})

t.test('what was registered before the session plugins, such as CORS, has its headers on refusals too', async t => {
  const app = Fastify()
  app.addHook('onRequest', (_request, reply, done) => { reply.header('access-control-allow-origin', '*'); done() })
  app.register(fills('identify', () => anonymous))
  routes(app)
  const reply = await app.inject('/required')
  t.equal(reply.statusCode, 401)
  t.equal(reply.headers['access-control-allow-origin'], '*')
})

t.test('an outcome that is sent as JSON holds no cause', async t => {
  const cause = Object.assign(new Error('x'), { detail: 'Key (email)=(ada@example.com)' })
  for (const outcome of [failed(cause), unavailable(5, cause)]) {
    t.equal(outcome.cause, cause)
    t.notMatch(JSON.stringify(outcome), /ada|cause/)
    t.ok(Object.isFrozen(outcome))
  }
})

t.test('asynchronous slots work like synchronous ones', async t => {
  const app = Fastify()
  app.register(fills('resolve', async () => user))
  app.register(fills('identify', async () => identity))
  routes(app)
  t.strictSame((await app.inject('/required')).json(), { user: '7' })
})

t.test('without a resolver the hub asks the source, and an outage of the source is a 503', async t => {
  const source = (load: UserSource['load']): UserSource => ({ load })
  const cases: ReadonlyArray<readonly [UserSource, number]> = [
    [source(batch => batch.map(async () => record)), 200],
    [source(batch => batch.map(async () => ({ kind: 'inactive', revision: 1 } as const))), 403],
    [source(batch => batch.map(() => Promise.reject(new SourceUnavailable('down')))), 503],
    [source(batch => batch.map(() => Promise.reject(new TypeError('bug')))), 500]
  ]
  for (const [from, status] of cases) {
    const app = Fastify()
    app.register(fills('source', from))
    app.register(fills('identify', () => identity))
    routes(app)
    t.equal((await app.inject('/required')).statusCode, status)
  }
})

t.test('a source is handed what its scope has when the server becomes ready, whichever plugin was registered first, and is waited for', async t => {
  const pool = { query: async () => ({ rows: [] }), connect: async () => { throw new Error('not used') } }
  const started = (): { calls: unknown[], source: UserSource } => {
    const calls: unknown[] = []
    return {
      calls,
      source: {
        load: batch => batch.map(async () => record),
        attach: scope => { calls.push(scope.pool); scope.log.warn({}, 'attached') },
        ready: async () => { await new Promise(resolve => { setImmediate(resolve) }); calls.push('ready') }
      }
    }
  }
  const decorates = plugin(fastify => { fastify.decorate('pg' as never, { pool } as never) })
  for (const order of [[0, 1], [1, 0]]) {
    const { calls, source } = started()
    const app = Fastify()
    const plugins = [decorates, fills('source', source)]
    for (const index of order) app.register(plugins[index]!)
    sessionHub(app).mention('bus', async () => { calls.push('mentioned'); return 'x' })
    await app.ready()
    t.strictSame(calls, [pool, 'ready', 'mentioned'])
  }
  const { calls, source } = started()
  const app = Fastify()
  sessionHub(app).fill('source', 'bare', source)
  app.register(async child => {
    await child.register(decorates)
    sessionHub(child)
    child.register(async grandchild => { sessionHub(grandchild).fill('source', 'inner', source) })
  })
  await app.ready()
  t.strictSame(calls, [null, 'ready', pool, 'ready'], 'by each scope that fills the slot itself')
  const refusing = Fastify()
  sessionHub(refusing).fill('source', 'refusing', { load: () => [], attach: () => { throw new Error('no pool') } })
  await t.rejects(async () => { await refusing.ready() }, { message: 'no pool' })
})

t.test('a source that never answers is given up after two seconds', async t => {
  const app = Fastify()
  app.register(fills('source', { load: () => [new Promise(() => {})] }))
  app.register(fills('identify', () => identity))
  routes(app)
  const keepAlive = setTimeout(() => {}, 10_000)
  const reply = await app.inject('/required')
  clearTimeout(keepAlive)
  t.equal(reply.statusCode, 503)
})

t.test('registration order and un-awaited registers do not matter within a scope', async t => {
  const parts: ReadonlyArray<(app: FastifyInstance) => void> = [
    app => { app.register(fills('identify', () => identity)) },
    app => { app.register(fills('resolve', () => user)) },
    app => { app.register(plugin(fastify => { sessionHub(fastify) })) },
    routes
  ]
  for (const order of permutations(parts)) {
    const app = Fastify()
    for (const part of order) part(app)
    t.strictSame((await app.inject('/required')).json(), { user: '7' })
  }
})

t.test('every subset of slots serves, and decides what it can', async t => {
  const all = { identify: () => identity, resolve: () => user, source: { load: batch => batch.map(async () => record) } } satisfies Slots
  for (let mask = 0; mask < 8; mask++) {
    const app = Fastify()
    const [identify, resolve, source] = [mask & 1, mask & 2, mask & 4]
    app.register(plugin(fastify => { sessionHub(fastify) }))
    if (identify) app.register(fills('identify', all.identify))
    if (resolve) app.register(fills('resolve', all.resolve))
    if (source) app.register(fills('source', all.source))
    routes(app)
    const expected = !identify ? 'anonymous' : resolve || source ? 'user' : 'identified'
    t.equal((await app.inject('/optional')).json().outcome, expected, `mask ${mask}`)
    t.equal((await app.inject('/required')).statusCode, identify ? 200 : 401)
  }
})

t.test('a child scope overlays its parent, siblings do not see one another, and one hook runs', async t => {
  const app = Fastify()
  let identified = 0
  const other: Identity = createIdentity({ issuer, subject: 'other' })
  app.register(fills('identify', () => { identified++; return identity }))
  app.register(fills('resolve', () => user))
  app.register(async child => {
    child.register(fills('identify', () => { identified++; return other }))
    child.get('/child', async request => ({ key: request.identity?.key, user: request.sessionUser?.userId }))
    child.register(async grandchild => { grandchild.get('/grandchild', async request => ({ key: request.identity?.key })) })
  })
  app.register(async sibling => { sibling.get('/sibling', async request => ({ key: request.identity?.key })) })
  t.strictSame((await app.inject('/child')).json(), { key: other.key, user: '7' })
  t.equal(identified, 1)
  t.strictSame((await app.inject('/grandchild')).json(), { key: other.key })
  t.strictSame((await app.inject('/sibling')).json(), { key: identity.key })
  t.equal(identified, 3)
})

t.test('hubs of siblings, and of children before their parent, are their own', async t => {
  const app = Fastify()
  app.register(async one => { one.register(fills('identify', () => identity)); one.get('/one', async request => ({ kind: request.sessionOutcome?.kind })) })
  app.register(async two => { two.register(plugin(fastify => { sessionHub(fastify) })); two.get('/two', async request => ({ kind: request.sessionOutcome?.kind })) })
  app.register(fills('resolve', () => user))
  app.register(fills('identify', () => identity))
  routes(app)
  t.strictSame((await app.inject('/required')).json(), { user: '7' })
  t.equal((await app.inject('/one')).statusCode, 200)
  t.equal((await app.inject('/two')).statusCode, 200)
})

t.test('components of a scope include those of its parents', async t => {
  const component = (name: string): Component => ({ name, instruments: [], health: () => ({ status: 'healthy', reason: 'ok', checkedAtMs: 0 }), stats: () => ({}) })
  const app = Fastify()
  app.register(plugin(fastify => { sessionHub(fastify).observe(component('a')) }))
  app.register(async child => {
    sessionHub(child).observe(component('b'))
    t.strictSame(sessionHub(child).components.map(({ name }) => name), ['a', 'b'])
    t.strictSame(sessionHub(app).components.map(({ name }) => name), ['a'])
  })
  await app.ready()
})

t.test('a second owner of a slot is a coded error that names both', async t => {
  const app = Fastify()
  app.register(fills('identify', () => identity, 'first'))
  app.register(fills('identify', () => identity, 'second'))
  await t.rejects(async () => { await app.ready() }, { code: 'ORI_CONTRACT_SLOT_TAKEN', message: /"identify".*first.*second/ })
})

t.test('a slot cannot be filled once requests are served', async t => {
  const app = await answering(user)
  await app.inject('/optional')
  t.throws(() => { sessionHub(app).fill('source', 'late', { load: () => [] }) }, { code: 'ORI_CONTRACT_SLOT_TOO_LATE' })
})

t.test('a foreign decorator is a coded error, not a silent take-over', async t => {
  for (const name of ['identity', 'sessionUser', 'sessionOutcome']) {
    const app = Fastify()
    app.decorateRequest(name, null)
    app.register(plugin(fastify => { sessionHub(fastify) }))
    await t.rejects(async () => { await app.ready() }, { code: 'ORI_CONTRACT_FOREIGN_DECORATOR', message: new RegExp(`request\\.${name}`) })
  }
})

t.test('two copies of the package meet in one hub, and another protocol is refused', async t => {
  const copy = await import('@orientor/session-contract')
  t.not(copy.sessionHub, sessionHub, 'this test needs two copies')
  const app = Fastify()
  app.register(fills('identify', () => identity))
  app.register(plugin(fastify => { copy.sessionHub(fastify).fill('resolve', 'copy', () => user) }))
  routes(app)
  t.strictSame((await app.inject('/required')).json(), { user: '7' })
  const old = Object.assign(Fastify(), { [Symbol.for('@orientor/session-contract/hub')]: { protocol: 0 } })
  t.throws(() => sessionHub(old), { code: 'ORI_CONTRACT_INCOMPATIBLE_COPIES' })
})

t.test('a misspelt route option fails at registration, and fails closed where the route came first', async t => {
  const early = Fastify()
  early.register(plugin(fastify => { sessionHub(fastify) }))
  early.after(() => {
    t.throws(() => early.get('/x', { config: { session: { requird: true } as never } }, async () => 'in'), { code: 'ORI_CONTRACT_INVALID_ROUTE_SESSION' })
  })
  await early.ready()
  const late = Fastify()
  late.get('/x', { config: { session: { requird: true } as never } }, async () => 'in')
  late.register(fills('identify', () => identity))
  const reply = await late.inject('/x')
  t.equal(reply.statusCode, 500)
  t.match(reply.json(), { code: 'ORI_CONTRACT_INVALID_ROUTE_SESSION', message: /requird/ })
})

t.test('a frozen route config is taken as it is', async t => {
  const app = Fastify()
  app.register(fills('identify', () => identity))
  app.after(() => { app.get('/x', { config: Object.freeze({ session: false as const }) }, async request => ({ outcome: request.sessionOutcome })) })
  t.strictSame((await app.inject('/x')).json(), { outcome: null })
})

t.test('unknown paths are answered 404, also to strangers', async t => {
  const app = await answering(anonymous)
  t.equal((await app.inject('/nowhere')).statusCode, 404)
})

t.test('requireSessionUser without any plugin is a coded 500', async t => {
  const app = Fastify()
  app.get('/bare', async request => requireSessionUser(request))
  t.match((await app.inject('/bare')).json(), { statusCode: 500, code: 'ORI_SESSION_NO_RESOLVER' })
})

t.test('at ready one line says who does what', async t => {
  const lines: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => { lines.push(JSON.parse(line).msg) } } } })
  app.register(fills('identify', () => identity, 'session-identity'))
  await app.ready()
  t.strictSame(lines.filter(line => line.startsWith('session:')), ['session: identify=session-identity resolve=none source=none'])
})

t.test('the line at ready waits for what is mentioned, before any other hook of the plugins', async t => {
  const lines: string[] = []
  const order: string[] = []
  const app = Fastify({ logger: { stream: { write: (line: string) => { lines.push(JSON.parse(line).msg) } } } })
  const hub = sessionHub(app)
  app.addHook('onReady', async () => { order.push('hook') })
  hub.mention('bus', async () => {
    await new Promise(resolve => { setImmediate(resolve) })
    order.push('mentioned')
    return 'memory(trusted)'
  })
  await app.ready()
  t.strictSame(order, ['mentioned', 'hook'])
  t.strictSame(lines.filter(line => line.startsWith('session:')), ['session: identify=none resolve=none source=none bus=memory(trusted)'])
  const failing = Fastify()
  sessionHub(failing).mention('bus', async () => { throw new Error('no bus') })
  await t.rejects(async () => { await failing.ready() }, { message: 'no bus' })
})

function permutations<T> (items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]]
  return items.flatMap((item, index) => permutations(items.toSpliced(index, 1)).map(rest => [item, ...rest]))
}
