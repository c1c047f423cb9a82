import { createHook } from 'node:async_hooks'
import { Writable } from 'node:stream'
import swagger from '@fastify/swagger'
import { createIdentity, outcomeOf, sessionHub, sessionKey, type ActiveRecord, type Component, type Health } from '@orientor/session-contract'
import { ManualClock } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import { fastify, type FastifyInstance, type FastifyRequest, type InjectOptions } from 'fastify'
import t, { type Test } from 'tap'
import perfRoutes, { adminKey, perfRoutes as named, type PerfRoutes, type PerfRoutesOptions, type SessionUser } from '../src/index.js'

const key = 'canary-key-of-forty-characters-in-length'
const issuer = 'https://clerk.example.com'
const withKey = { 'x-admin-key': key }
const paths = ['/database/performance', '/database/health'] as const
const invalidateUrl = '/database/invalidate-user-cache'

type Options = Partial<PerfRoutesOptions<FastifyRequest>>

/** An app with the plugin, whose log is kept. */
async function setup (t: Test, options: Options = {}, components: readonly Component[] = []) {
  const lines: string[] = []
  const app = fastify({ logger: { level: 'trace', stream: new Writable({ write (chunk, _encoding, done) { lines.push(String(chunk)); done() } }) } })
  await app.register(perfRoutes, { authorize: adminKey(key), ...options })
  for (const component of components) sessionHub(app).observe(component)
  t.teardown(async () => { await app.close() })
  return { app, log: () => lines.join('') }
}

function component (name: string, parts: Partial<Omit<Component, 'name'>> = {}): Component {
  return { name, instruments: [], stats: () => ({}), health: () => ({ status: 'healthy', reason: 'Fine', checkedAtMs: 1 }), ...parts }
}

function cache (told: unknown[], instances: number | null = 1): Component {
  return component('sessionCache', {
    stats: () => ({ cacheHits: 9, cacheMisses: 1 }),
    admin: { invalidate: async (target, reason) => { told.push([target, reason]); return { instances } } }
  })
}

t.test('Registration', async t => {
  t.test('Without authorize it fails with an error that shows the fix.', async t => {
    const app = fastify()
    // @ts-expect-error authorize is required
    app.register(perfRoutes, {})
    await t.rejects(async () => { await app.ready() }, { code: 'ORI_PERF_NO_GUARD', message: /adminKey\(process\.env\.ADMIN_KEY\)/ })
    const bare = fastify()
    bare.register(perfRoutes as never)
    await t.rejects(async () => { await bare.ready() }, { code: 'ORI_PERF_NO_GUARD' })
  })

  t.test('Alone it decorates the app and the request, and serves the three routes under its prefix.', async t => {
    const { app } = await setup(t)
    t.ok(app.hasRequestDecorator('sessionUser'))
    t.match(app.perfRoutes.performance(), { rating: null })
    t.match(await app.perfRoutes.health(), { status: 'healthy' })
    t.equal(named, perfRoutes)
    for (const url of paths) t.equal((await app.inject({ url, headers: withKey })).statusCode, 200)
    t.equal((await app.inject({ url: '/database/preload-users', method: 'POST', headers: withKey, payload: {} })).statusCode, 404)
    expectTypeOf(app.perfRoutes).toEqualTypeOf<PerfRoutes>()
    expectTypeOf<PerfRoutes>().not.toBeAny()
    expectTypeOf<FastifyRequest['sessionUser']>().toEqualTypeOf<SessionUser | null>()
  })

  t.test('Another prefix moves the routes, also within a scope that has one.', async t => {
    const { app } = await setup(t, { prefix: '/ops/db' })
    t.equal((await app.inject({ url: '/ops/db/health', headers: withKey })).statusCode, 200)
    t.equal((await app.inject({ url: '/database/health', headers: withKey })).statusCode, 404)
    const nested = fastify()
    nested.register(async scope => { await scope.register(perfRoutes, { authorize: adminKey(key) }) }, { prefix: '/v1' })
    t.equal((await nested.inject({ url: '/v1/database/health', headers: withKey })).statusCode, 200)
    await nested.close()
  })

  t.test('Components are found whenever they register, the ones of the parent scope included.', async t => {
    const app = fastify()
    t.teardown(async () => { await app.close() })
    app.register(async scope => {
      await scope.register(perfRoutes, { authorize: false })
      sessionHub(scope).observe(component('connectionPool', { stats: () => ({ active: 1, size: 4 }) }))
    })
    sessionHub(app).observe(component('sessionCache'))
    t.match((await app.inject('/database/health')).json(), { components: { sessionCache: { status: 'healthy' }, connectionPool: { status: 'healthy' }, databaseSync: { status: 'absent' } } })
  })

  t.test('The history runs from ready to close and leaves no timer.', async t => {
    const clock = new ManualClock()
    const app = fastify()
    await app.register(perfRoutes, { authorize: false, clock })
    await app.ready()
    clock.advance(120_000)
    t.equal((await app.inject('/database/performance')).json().history.length, 2)
    await app.close()
    t.equal(clock.pendingTimers, 0)
  })
})

t.test('Guard', async t => {
  t.test('Every route, HEAD included, refuses a missing and a wrong key before it looks at anything else.', async t => {
    const { app } = await setup(t)
    const attempts = [...paths.map(url => ({ url })), ...paths.map(url => ({ url, method: 'HEAD' as const })), { url: invalidateUrl, method: 'POST' as const, headers: { 'content-type': 'text/plain' }, payload: 'x' }]
    for (const attempt of attempts) {
      for (const wrong of [{}, { 'x-admin-key': 'wrong' }, { authorization: `Bearer ${key}` }, { cookie: `x-admin-key=${key}` }]) {
        const response = await app.inject({ ...attempt, headers: { ...('headers' in attempt ? attempt.headers : {}), ...wrong } })
        t.equal(response.statusCode, 401, `${attempt.url} ${JSON.stringify(wrong)}`)
        t.match(response.headers, { 'content-type': 'application/problem+json; charset=utf-8', 'cache-control': 'no-store', 'www-authenticate': 'AdminKey realm="database", header="x-admin-key"' })
      }
    }
    t.match((await app.inject(paths[0])).json(), { type: 'about:blank', title: 'Unauthorized', status: 401, code: 'ORI_PERF_UNAUTHORIZED', requestId: /^req-/ })
    t.equal((await app.inject(`/database/health?x-admin-key=${key}`)).statusCode, 401, 'not from the query')
  })

  t.test('Failures are counted and logged without the value, and each key of a rotation opens.', async t => {
    const next = 'canary-next-key-of-forty-characters-long'
    const { app, log } = await setup(t, { authorize: adminKey([key, next]) })
    for (let attempt = 0; attempt < 50; attempt++) await app.inject({ url: paths[0], headers: { 'x-admin-key': `canary-guess-${attempt}` } })
    for (const good of [key, next]) t.equal((await app.inject({ url: paths[0], headers: { 'x-admin-key': good } })).json().refusedAccesses, 50)
    t.match(log(), /"refusedAccesses":50,"msg":"access to a monitoring route was refused"/)
    t.notMatch(log(), /canary/)
  })

  t.test('A rule of the app decides, also by a promise; only true lets in.', async t => {
    let answer: unknown
    const { app, log } = await setup(t, { authorize: request => { expectTypeOf(request).toEqualTypeOf<FastifyRequest>(); return answer as boolean } })
    for (answer of [true, Promise.resolve(true)]) t.equal((await app.inject(paths[0])).statusCode, 200)
    for (answer of [false, 'true', Promise.resolve(false), undefined]) {
      const response = await app.inject(paths[0])
      t.equal(response.statusCode, 403)
      t.match(response.json(), { code: 'ORI_PERF_FORBIDDEN' })
      t.notOk(response.headers['www-authenticate'])
    }
    answer = Promise.reject(new Error('directory at canary.internal is down'))
    const failed = await app.inject(paths[0])
    t.match(failed.json(), { status: 500, code: 'ORI_PERF_AUTHORIZE_FAILED' })
    t.notMatch(failed.body, /canary/)
    t.match(log(), /directory at canary\.internal is down/, 'the operator reads the cause')
  })

  t.test('authorize: false leaves the routes open and says so once.', async t => {
    const { app, log } = await setup(t, { authorize: false })
    for (const url of paths) t.equal((await app.inject(url)).statusCode, 200)
    t.equal(log().match(/the routes under \/database are open/g)?.length, 1)
  })

  t.test('Nothing of it reaches the rest of the app: guard, body rules, error format and headers stay inside.', async t => {
    const { app } = await setup(t)
    app.get('/open', () => 'open')
    app.get('/broken', () => { throw new Error('as the app says it') })
    app.post('/text', request => request.body)
    const open = await app.inject('/open')
    t.equal(open.body, 'open')
    t.notOk(open.headers['cache-control'])
    t.match((await app.inject('/broken')).json(), { message: 'as the app says it' })
    t.equal((await app.inject({ url: '/text', method: 'POST', headers: { 'content-type': 'text/plain' }, payload: 'a' })).body, 'a')
    t.equal((await app.inject('/database')).statusCode, 404)
  })

  t.test('No session is asked for, whatever the hub does elsewhere.', async t => {
    const { app } = await setup(t)
    let identified = 0
    sessionHub(app).fill('identify', 'test', () => { identified++; throw new Error('must not be asked') })
    for (const url of paths) t.equal((await app.inject({ url, headers: { ...withKey, authorization: 'Bearer broken' } })).statusCode, 200)
    t.equal((await app.inject({ url: invalidateUrl, method: 'POST', headers: withKey, payload: { all: true } })).statusCode, 409)
    t.equal(identified, 0)
  })
})

t.test('GET /performance', async t => {
  t.test('The answer is the whole report: the response schema drops nothing and changes nothing.', async t => {
    const clock = new ManualClock()
    const counts = { cacheHits: 9, cacheMisses: 1, hits: 1, verified: 1, attempts: 1, performed: 0, skipped: 1, active: 1, size: 2, odd: 1.5 }
    for (const components of [[], ['sessionIdentity', 'sessionCache', 'databaseSync', 'connectionPool'].map(name => component(name, { stats: () => counts }))]) {
      const { app } = await setup(t, { clock }, components)
      await app.inject('/missing')
      clock.advance(60_000)
      const response = await app.inject({ url: paths[0], headers: withKey })
      t.match(response.headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store' })
      t.strictSame(response.json(), JSON.parse(JSON.stringify(app.perfRoutes.performance())))
    }
  })

  t.test('Every response of the app is measured, routes that were there before and 404 included; these routes are not.', async t => {
    const app = fastify()
    t.teardown(async () => { await app.close() })
    app.get('/before', () => 'x')
    await app.register(perfRoutes, { authorize: adminKey(key) })
    app.get('/failing', () => { throw new Error('x') })
    for (const url of ['/before', '/failing', '/missing', ...paths]) await app.inject(url)
    const { responses } = app.perfRoutes.performance()
    t.match(responses, { count: 3, serverErrors: 1, reliabilityRatio: 2 / 3, cacheHitTimes: { count: 0 } })
    t.ok(responses.times.maxMs! > 0)
  })

  t.test('Responses whose user came from the cache are measured apart.', async t => {
    const { app } = await setup(t)
    const identity = createIdentity({ issuer, subject: 'u' })
    const record: ActiveRecord = {
      kind: 'active',
      user: { userId: '1', issuer, subject: 'u', email: null, firstName: null, lastName: null, isActive: true, onboardingCompleted: false, providerUpdatedAt: null, profile: null },
      revision: 1,
      sync: 'skipped',
      lastSyncedAtMs: null,
      tokensValidFromMs: 0,
      revokedSessions: []
    }
    let from: 'cache' | 'source' = 'source'
    sessionHub(app).fill('identify', 'test', () => identity)
    sessionHub(app).fill('resolve', 'test', () => outcomeOf(record, identity, from, 0))
    app.get('/me', request => request.sessionUser?.userId)
    await app.inject('/me')
    t.equal(app.perfRoutes.performance().responses.cacheHitTimes.count, 0)
    from = 'cache'
    await app.inject('/me')
    t.equal(app.perfRoutes.performance().responses.cacheHitTimes.count, 1)
  })

  t.test('Measuring makes no promise.', async t => {
    const promises = async (measured: boolean): Promise<number> => {
      const app = fastify()
      if (measured) await app.register(perfRoutes, { authorize: false })
      else sessionHub(app)
      app.get('/', (_request, reply) => { reply.send('x') })
      await app.ready()
      let made = 0
      const hook = createHook({ init: (_id, type) => { if (type === 'PROMISE') made++ } })
      await new Promise<void>(resolve => {
        hook.enable()
        app.inject('/', () => { hook.disable(); resolve() })
      })
      await app.close()
      return made
    }
    await promises(true)
    t.equal(await promises(true), await promises(false))
  })
})

t.test('GET /health', async t => {
  const as = (status: Health['status']) => component('connectionPool', { health: () => ({ status, reason: 'As it is', checkedAtMs: 1 }) })

  t.test('Healthy and degraded answer 200, unhealthy 503, with one body.', async t => {
    for (const [status, code] of [['healthy', 200], ['degraded', 200], ['unhealthy', 503]] as const) {
      const { app } = await setup(t, { clock: new ManualClock() }, [as(status)])
      await app.inject('/missing')
      const response = await app.inject({ url: paths[1], headers: withKey })
      t.equal(response.statusCode, code)
      t.match(response.headers, { 'content-type': /^application\/json/, 'cache-control': 'no-store' })
      t.strictSame(response.json(), await app.perfRoutes.health())
      t.equal(response.json().status, status)
    }
  })

  t.test('A component that throws or hangs is reported and logged, and no word of its error gets out.', async t => {
    const clock = new ManualClock()
    const { app, log } = await setup(t, { clock }, [
      component('connectionPool', { health: () => { throw new Error('connect ECONNREFUSED canary.internal:5432') } }),
      component('databaseSync', { health: async () => await new Promise<Health>(() => {}) })
    ])
    await app.ready()
    const pending = app.inject({ url: paths[1], headers: withKey }).then(response => response)
    await clock.settle(20)
    clock.advance(2000)
    const response = await pending
    t.equal(response.statusCode, 503)
    t.match(response.json(), { status: 'unhealthy', components: { connectionPool: { reason: 'The health check failed' }, databaseSync: { reason: 'The health check did not answer in time' }, sessionCache: { status: 'absent' } } })
    t.notMatch(response.body, /canary/)
    t.match(log(), /"component":"connectionPool","msg":"health check failed"/)
  })
})

t.test('POST /invalidate-user-cache', async t => {
  const post = (app: FastifyInstance, payload: unknown, headers: Record<string, string> = {}) =>
    app.inject({ url: invalidateUrl, method: 'POST', headers: { ...withKey, 'content-type': 'application/json', ...headers }, payload: typeof payload === 'string' ? payload : JSON.stringify(payload) })

  t.test('One user or all are forgotten, and the answer says by how many instances.', async t => {
    const told: unknown[] = []
    const { app } = await setup(t, {}, [cache(told, 3)])
    const response = await post(app, { issuer, subject: 'user_1', reason: 'support' })
    t.strictSame([response.statusCode, response.json()], [200, { invalidated: true, instances: 3 }])
    t.match(response.headers, { 'cache-control': 'no-store' })
    t.strictSame((await post(app, { all: true })).json(), { invalidated: true, instances: 3 })
    t.strictSame(told, [[{ key: sessionKey(issuer, 'user_1') }, 'support'], ['all', 'asked for by an administrator']])
    const single = await setup(t, { issuer }, [cache(told, null)])
    t.strictSame((await post(single.app, { subject: 'user_2' })).json(), { invalidated: true, instances: null })
    t.match(told[2], [{ key: sessionKey(issuer, 'user_2') }])
  })

  t.test('A body that breaks the rule is a 400 with the rule, and nothing is forgotten.', async t => {
    const told: unknown[] = []
    const { app } = await setup(t, {}, [cache(told)])
    for (const body of [{}, [], null, 'null', '"text"', '', '{', { subject: 'a' }, { all: false }, { all: true, extra: 1 }, { issuer, subject: 'a', userId: 1 }, '{"all":true,"__proto__":{}}', { issuer, subject: 'x'.repeat(256) }]) {
      const response = await post(app, body)
      t.equal(response.statusCode, 400, JSON.stringify(body))
      t.match(response.headers, { 'content-type': 'application/problem+json; charset=utf-8', 'cache-control': 'no-store' })
      t.match(response.json(), { type: 'about:blank', title: 'Bad Request', status: 400, code: /^(ORI_PERF_INVALID_REQUEST|FST_ERR_CTP_[A-Z_]+|ORI_PERF_FAILED)$/ })
    }
    t.match((await post(app, { all: true, extra: 1 })).json(), { code: 'ORI_PERF_INVALID_REQUEST', detail: /a key that is not known.*The body must be/ })
    t.equal((await app.inject({ url: invalidateUrl, method: 'POST', headers: withKey })).statusCode, 400, 'no body at all')
    t.strictSame(told, [])
  })

  t.test('Only application/json is read, also where the app reads more; GET changes nothing.', async t => {
    const told: unknown[] = []
    const app = fastify()
    t.teardown(async () => { await app.close() })
    app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, _body, done) => { done(null, { all: true }) })
    await app.register(perfRoutes, { authorize: adminKey(key) })
    sessionHub(app).observe(cache(told))
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/jsonp']) {
      const response = await post(app, { all: true }, { 'content-type': type })
      t.equal(response.statusCode, 415, type)
      t.match(response.json(), { status: 415, detail: 'The body must be sent as application/json' })
    }
    t.equal((await app.inject({ url: invalidateUrl, headers: withKey })).statusCode, 404)
    t.equal((await post(app, { all: true, reason: 'x'.repeat(9000) })).statusCode, 413)
    t.strictSame(told, [])
    t.equal((await post(app, { all: true }, { 'content-type': 'application/json; charset=utf-8' })).statusCode, 200)
  })

  t.test('Where no cache can forget the answer is 409; where one fails, 503 without the cause.', async t => {
    const { app } = await setup(t, {}, [component('connectionPool')])
    t.match((await post(app, { all: true })).json(), { status: 409, code: 'ORI_PERF_NOTHING_TO_INVALIDATE' })
    const failing = await setup(t, {}, [component('sessionCache', { admin: { invalidate: async () => { throw new Error('canary.internal') } } })])
    const response = await post(failing.app, { all: true })
    t.match(response.json(), { status: 503, code: 'ORI_PERF_INVALIDATION_FAILED' })
    t.notMatch(response.body, /canary/)
    t.match(failing.log(), /canary\.internal/, 'the operator reads the cause')
  })
})

t.test('Key, token, e-mail and subject of a canary turn up in no answer and in no line of the log.', async t => {
  const told: unknown[] = []
  const { app, log } = await setup(t, {}, [cache(told)])
  app.get('/me', () => 'x')
  const answers: string[] = []
  const send = async (options: InjectOptions): Promise<void> => {
    const { body, headers } = await app.inject(options)
    answers.push(body, JSON.stringify(headers))
  }
  const credentials = [withKey, { 'x-admin-key': 'canary-wrong' }]
  const payloads = [
    { issuer: 'https://canary.example.com', subject: 'canary_subject', reason: 'canary@example.com asked' }, { issuer: 'canary bad', subject: 'canary@example.com' },
    { subject: 'canary@example.com' }, { all: 'canary@example.com' }, { 'canary@example.com': 1 }, '{"canary@example.com"'
  ]
  for (const headers of credentials.map(credential => ({ ...credential, authorization: 'Bearer canary.token.value', cookie: '__session=canary.token.value' }))) {
    for (const url of paths) await send({ url, headers })
    for (const payload of payloads) {
      for (const type of ['application/json', 'text/canary']) {
        await send({ url: invalidateUrl, method: 'POST', headers: { ...headers, 'content-type': type }, payload: typeof payload === 'string' ? payload : JSON.stringify(payload) })
      }
    }
    await send({ url: '/me', headers })
  }
  for (const url of paths) await send({ url, headers: withKey })
  t.equal(told.length, 1, 'the good one got through')
  t.equal(answers.filter(answer => /canary/i.test(answer)).length, 0)
  t.equal(log().match(/.*canary.*/gi)?.length ?? 0, 0)
  t.match(log(), /"target":"[0-9a-f]{64}","instances":1,"msg":"user cache invalidated"/, 'who was forgotten is told by hash')
})

t.test('OpenAPI describes every route, its body and its answers.', async t => {
  const app = fastify()
  t.teardown(async () => { await app.close() })
  await app.register(swagger, { openapi: { openapi: '3.1.0', info: { title: 'Test', version: '1' } } })
  await app.register(perfRoutes, { authorize: adminKey(key) })
  await app.ready()
  const { paths: documented = {} } = app.swagger() as unknown as { readonly paths?: Record<string, Record<string, { readonly requestBody?: unknown, readonly responses: Record<string, { readonly description: string, readonly content: object }> }>> }
  t.strictSame(Object.keys(documented).sort(), [paths[1], invalidateUrl, paths[0]].sort())
  for (const [path, operations] of Object.entries(documented)) {
    for (const { responses } of Object.values(operations)) {
      t.ok(responses['200'] && responses['4XX'] && responses['5XX'], path)
      for (const response of [responses['4XX']!, responses['5XX']!]) t.strictSame(Object.keys(response.content), ['application/problem+json'])
    }
  }
  t.ok(documented[paths[1]]!['get']!.responses['503'])
  t.match(JSON.stringify(documented[invalidateUrl]!['post']!.requestBody), /"oneOf"/)
})
