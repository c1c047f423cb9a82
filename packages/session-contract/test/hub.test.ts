import Fastify, { type FastifyInstance, type FastifyPluginAsync } from 'fastify'
import t from 'tap'
import {
  anonymous, createIdentity, refused, requireSessionUser, sessionHub, SourceUnavailable, unavailable, userOutcome,
  type ActiveRecord, type Component, type Identity, type SessionOutcome, type Slots, type UserSource
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

async function answering (outcome: SessionOutcome | Error | Promise<SessionOutcome>): Promise<FastifyInstance> {
  const app = Fastify()
  app.register(fills('identify', () => identity))
  app.register(fills('resolve', () => { if (outcome instanceof Error) throw outcome; return outcome }))
  routes(app)
  await app.ready()
  return app
}

t.test('outcome and demand decide between the route and a refusal, as the table says', async t => {
  const table: ReadonlyArray<readonly [SessionOutcome, number, number]> = [
    [user, 200, 200], [{ kind: 'identified' }, 200, 200], [anonymous, 401, 200], [refused('invalid_token', 'no'), 401, 401],
    [refused('invalid_request', 'bad'), 400, 400], [{ kind: 'forbidden', reason: 'inactive' }, 403, 200], [unavailable(1500, new Error('x')), 503, 200]
  ]
  for (const [outcome, required, optional] of table) {
    const app = await answering(outcome)
    t.equal((await app.inject('/required')).statusCode, required, `${outcome.kind}, required`)
    const reply = await app.inject('/optional')
    t.equal(reply.statusCode, optional, `${outcome.kind}, optional`)
    if (optional === 200) t.strictSame(reply.json(), { user: outcome.kind === 'user' ? '7' : null, outcome: outcome.kind, identity: identity.key })
    t.strictSame((await app.inject('/off')).json(), { outcome: null }, 'session: false')
    const guaranteed = await app.inject('/guaranteed')
    t.equal(guaranteed.statusCode, outcome.kind === 'identified' ? 500 : required, `${outcome.kind}, requireSessionUser`)
    await app.close()
  }
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

t.test('a defect answers 500 without its cause, and lets nobody in', async t => {
  for (const broken of [new Error('SELECT secret'), Promise.reject(new Error('SELECT secret')) as Promise<SessionOutcome>]) {
    const app = await answering(broken)
    const reply = await app.inject('/optional')
    t.equal(reply.statusCode, 500)
    t.match(reply.json(), { code: 'ORI_SESSION_RESOLUTION_FAILED' })
    t.notMatch(reply.body, /secret/)
  }
  const app = Fastify()
  app.register(fills('identify', () => Promise.reject(new Error('SELECT secret'))))
  routes(app)
  t.match((await app.inject('/required')).json(), { code: 'ORI_SESSION_RESOLUTION_FAILED' })
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
