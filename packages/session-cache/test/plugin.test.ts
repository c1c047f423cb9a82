import { readdirSync, readFileSync } from 'node:fs'
import { requireSessionUser, sessionHub, SourceUnavailable, startDeadline, type Component, type UserSource } from '@orientor/session-contract'
import { ManualClock } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import { fastify, type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import sessionCache, { sessionCache as named, type CacheErrorCode, type InvalidationBus, type SessionCache, type SessionCacheOptions, type SessionUser } from '../src/index.js'
import { HandSource, hashOf, identityOf, issuer, keyOf, recordOf } from './fixtures/setup.js'

const as = (subject: string, url = '/me') => ({ url, headers: { 'x-user': subject } })

interface Bundle { readonly app: FastifyInstance, readonly clock: ManualClock, readonly source: HandSource, readonly component: () => Component }

/** An app with its own authentication (a header) and a source that knows everybody. */
function setup (t: Test): Bundle {
  const clock = new ManualClock()
  const source = new HandSource()
  source.reply = request => recordOf(request.subject)
  const app = fastify()
  t.teardown(() => app.close())
  sessionHub(app).fill('identify', 'test', request => {
    const subject = request.headers['x-user']
    return typeof subject === 'string' ? identityOf(subject) : { kind: 'anonymous' }
  })
  app.get('/me', { config: { session: { required: true } } }, request => requireSessionUser(request))
  app.get('/outcome', request => ({ kind: request.sessionOutcome?.kind, from: request.sessionOutcome?.kind === 'user' ? request.sessionOutcome.from : undefined }))
  app.get('/now', { config: { session: { required: true, maxStalenessMs: 0, onUnavailable: 'fail' } } }, request => requireSessionUser(request))
  return { app, clock, source, component: () => sessionHub(app).components.find(({ name }) => name === 'sessionCache')! }
}

async function ready (t: Test, options: SessionCacheOptions = {}): Promise<Bundle> {
  const bundle = setup(t)
  await bundle.app.register(sessionCache, { source: bundle.source, clock: bundle.clock, random: () => 0, ...options })
  return bundle
}

t.test('a user is loaded once and then served from memory', async t => {
  const { app, source } = await ready(t)
  t.match((await app.inject(as('ada'))).json(), { userId: 'id-ada' })
  for (let request = 0; request < 1000; request++) await app.inject(as('ada'))
  t.equal(source.calls.length, 1)
  t.match((await app.inject(as('ada', '/outcome'))).json(), { kind: 'user', from: 'cache' })
  t.match(app.sessionCache.stats(), { cacheHits: 1001, cacheMisses: 1, databaseSyncs: 0, syncSkips: 1, evictions: 0, invalidations: 0 })
})

t.test('fifty first requests at once of one user are one load', async t => {
  const { app, source } = await ready(t)
  const replies = await Promise.all(Array.from({ length: 50 }, () => app.inject(as('ada'))))
  t.ok(replies.every(reply => reply.statusCode === 200))
  t.equal(new Set(replies.map(reply => reply.json<SessionUser>().userId)).size, 1)
  t.equal(source.calls.length, 1)
  t.equal(source.last.requests.length, 1)
})

t.test('first requests of many users at once go together', async t => {
  const { app, source } = await ready(t)
  await Promise.all(Array.from({ length: 200 }, (_, index) => app.inject(as(`user-${index}`))))
  t.ok(source.calls.length < 10, `${source.calls.length} batches`)
})

t.test('the source is that of the scope, whoever is registered first', async t => {
  for (const first of ['cache', 'source']) {
    const { app, clock, source } = setup(t)
    if (first === 'source') sessionHub(app).fill('source', 'users', source)
    await app.register(sessionCache, { clock })
    if (first === 'cache') sessionHub(app).fill('source', 'users', source)
    t.equal((await app.inject(as('ada'))).statusCode, 200)
    t.equal(source.calls.length, 1)
    t.type(source.listener, 'function', 'its changes are listened to')
  }
})

t.test('without any source identities pass and nobody is a user', async t => {
  const { app, clock, component } = setup(t)
  await app.register(sessionCache, { clock })
  t.match((await app.inject(as('ada', '/outcome'))).json(), { kind: 'identified' })
  t.equal((await app.inject(as('ada'))).json<{ code: string }>().code, 'ORI_SESSION_NO_RESOLVER')
  t.match(await component().health(), { status: 'degraded', reason: /No source/ })
  t.same(await app.sessionCache.preload([keyOf('ada')]), { loaded: 0, failed: 1 })
})

t.test('a child scope may have a cache of its own', async t => {
  const { app, clock, source } = await ready(t)
  const other = new HandSource()
  other.reply = request => recordOf(request.subject, {}, { userId: 'of the child' })
  await app.register(async child => {
    await child.register(sessionCache, { source: other, clock })
    child.get('/child', { config: { session: { required: true } } }, request => requireSessionUser(request))
    t.not(child.sessionCache, app.sessionCache)
  })
  t.match((await app.inject(as('ada', '/child'))).json(), { userId: 'of the child' })
  t.match((await app.inject(as('ada'))).json(), { userId: 'id-ada' })
  t.equal(source.calls.length + other.calls.length, 2)
})

t.test('a change that the source announces is seen by the next request', async t => {
  const { app, source } = await ready(t)
  await app.inject(as('ada'))
  source.reply = () => recordOf('ada', { revision: 2 }, { firstName: 'Ada' })
  source.listener!({ kind: 'user', keyHash: hashOf('ada'), revision: 2 })
  t.match((await app.inject(as('ada'))).json(), { firstName: 'Ada' })
  source.reply = () => ({ kind: 'inactive', revision: 3 })
  source.listener!({ kind: 'all' })
  t.equal((await app.inject(as('ada'))).statusCode, 403)
  source.reply = () => ({ kind: 'deleted', revision: 4 })
  source.listener!({ kind: 'user', keyHash: hashOf('ada'), revision: null })
  t.match(await app.inject(as('ada')), { statusCode: 401, headers: { 'www-authenticate': /invalid_token/ } })
})

t.test('a user is invalidated by key or by parts, all with a reason', async t => {
  const { app, source } = await ready(t)
  await app.inject(as('ada'))
  t.ok(app.sessionCache.invalidateUser(keyOf('ada')))
  await app.inject(as('ada'))
  t.ok(app.sessionCache.invalidateUser({ issuer, subject: 'ada' }))
  t.notOk(app.sessionCache.invalidateUser({ issuer, subject: 'ada' }))
  t.throws(() => app.sessionCache.invalidateUser({ issuer, subject: '' }), { code: 'ORI_CONTRACT_INVALID_SESSION_KEY' })
  t.same(await app.sessionCache.preload([keyOf('ada'), keyOf('bob')]), { loaded: 2, failed: 0 })
  t.equal(app.sessionCache.invalidateAll('a restore of the database'), 2)
  await app.inject(as('ada'))
  t.equal(source.calls.length, 4)
  await app.sessionCache.idle()
})

t.test('the monitoring routes can invalidate, preload and list', async t => {
  const { app, clock, component } = await ready(t)
  await app.ready()
  const { admin } = component()
  const deadline = startDeadline(clock, 1000)
  t.match(await admin!.preload!([keyOf('ada'), keyOf('bob')], deadline), { loaded: 2 })
  t.same(await admin!.recent!(5), [keyOf('bob'), keyOf('ada')])
  t.same(await admin!.invalidate!({ key: keyOf('bob') }, 'asked for'), { instances: 1 })
  t.same(await admin!.recent!(5), [keyOf('ada')])
  t.same(await admin!.invalidate!('all', 'asked for'), { instances: 1 })
  t.same(await admin!.recent!(5), [])
  t.match(component().stats(), { invalidations: 2, entries: 0, loads: 2 })
  t.ok(component().instruments.length >= 8)
  for (const instrument of component().instruments) t.match(instrument.name, /^orientor\.session_cache\./)
})

t.test('while the source is down known users are served, marked, and routes may refuse that', async t => {
  const { app, clock, source, component } = await ready(t, { expireAfterMs: 1000 })
  await app.inject(as('ada'))
  t.match(await component().health(), { status: 'healthy' })
  source.reply = () => { throw new SourceUnavailable('The database is down', { retryAfterMs: 3000 }) }
  const before = await app.inject(as('ada'))
  t.notOk('x-session-stale' in before.headers)
  clock.advance(1000)
  t.match(await app.inject(as('ada')), { statusCode: 200, headers: { 'x-session-stale': '1' } })
  t.match(await app.inject(as('ada', '/now')), { statusCode: 503, headers: { 'retry-after': '3' } })
  t.match(await app.inject(as('eve')), { statusCode: 503 })
  t.match(await component().health(), { status: 'degraded', checkedAtMs: clock.now() })
  source.reply = request => recordOf(request.subject)
  t.match(await app.inject(as('ada', '/now')), { statusCode: 200 })
  t.match(await component().health(), { status: 'healthy' })
})

t.test('health tells that users are read elsewhere than the bus polls', async t => {
  const trust = { maxStalenessMs: 5000, epoch: 1, provenAtMs: Infinity, provenWallMs: Infinity, lastProofOf: () => null, covers: (mark?: string) => mark === 'here' }
  const bus: InvalidationBus = {
    name: 'test',
    trust,
    leaseMs: 1000,
    hearsWrites: true,
    start: async () => {},
    subscribe: () => () => {},
    onTrust: () => () => {},
    publish: async () => {},
    status: () => ({ trusted: true, reason: 'Every change is announced', instances: 1 }),
    close: async () => {}
  }
  const { app, source, component } = await ready(t, { bus })
  source.reply = request => ({ ...recordOf(request.subject), readMark: 'there' })
  t.match(await app.inject(as('ada')), { statusCode: 200 })
  t.match(await component().health(), { status: 'degraded', reason: /read elsewhere than the bus polls/ })
  source.reply = request => ({ ...recordOf(request.subject), readMark: 'here' })
  t.match(await app.inject(as('ada')), { statusCode: 200 })
  t.match(await component().health(), { status: 'healthy' })
})

t.test('a user is refreshed by key or by parts', async t => {
  const { app, source } = await ready(t)
  await app.inject(as('ada'))
  source.reply = request => recordOf(request.subject, { revision: 2 }, { firstName: 'Ada' })
  t.match(await app.sessionCache.refresh({ issuer, subject: 'ada' }, { force: true }), { kind: 'active', revision: 2 })
  t.match(source.last.requests, [{ force: true, identity: null }])
  t.match((await app.inject(as('ada'))).json(), { firstName: 'Ada' })
  t.match(await app.sessionCache.refresh(keyOf('ada')), { kind: 'active' })
  await t.rejects(app.sessionCache.refresh({ issuer: '', subject: 'ada' }), { code: 'ORI_CONTRACT_INVALID_SESSION_KEY' })
  t.equal(source.calls.length, 3)
})

t.test('a source that failed repeatedly is not asked for anybody, and says so', async t => {
  const { app, source, component } = await ready(t, { expireAfterMs: 1000 })
  await app.inject(as('ada'))
  source.reply = () => { throw new SourceUnavailable('The database is down') }
  for (let request = 0; request < 5; request++) t.equal((await app.inject(as('eve'))).statusCode, 503)
  const asked = source.calls.length
  t.match(await app.inject(as('eve')), { statusCode: 503, headers: { 'retry-after': '1' } })
  t.equal((await app.inject(as('ada'))).statusCode, 200)
  t.equal(source.calls.length, asked)
  t.match(await component().health(), { status: 'degraded', reason: /being probed/ })
  t.match(component().stats(), { circuitOpen: 1, circuitOpenings: 1 })
})

t.test('closed by itself the cache still serves what is in memory', async t => {
  const { app } = await ready(t)
  await app.inject(as('ada'))
  await app.sessionCache.close()
  t.equal((await app.inject(as('ada'))).statusCode, 200)
  t.equal((await app.inject(as('eve'))).statusCode, 503)
})

t.test('a source that answers nonsense is a defect of the server, not a user', async t => {
  const { app, source } = await ready(t)
  const broken: Array<UserSource['load']> = [() => [], () => { throw new Error('boom') }, () => [Promise.resolve({} as never)], () => [Promise.resolve(recordOf('eve'))]]
  for (const load of broken) {
    source.load = load
    const reply = await app.inject(as('ada'))
    t.equal(reply.statusCode, 500)
    t.equal(reply.json<{ code: string }>().code, 'ORI_SESSION_RESOLUTION_FAILED')
  }
  t.match(app.sessionCache.stats(), { entries: 0, inFlight: 0, waiting: 0, loadFailures: 4 })
})

t.test('users too old to be served at all are dropped at the interval', async t => {
  const { app, clock } = await ready(t, { expireAfterMs: 1000, staleIfErrorMs: 0, cleanupIntervalMs: 5000 })
  await app.inject(as('ada'))
  clock.advance(4999)
  t.equal(app.sessionCache.stats().entries, 1)
  clock.advance(1)
  t.match(app.sessionCache.stats(), { entries: 0, expired: 1 })
})

t.test('closing the server ends the subscription and the timer, and waits for the loads on their way', async t => {
  const { app, clock, source } = await ready(t)
  await app.ready()
  source.reply = null
  const preload = app.sessionCache.preload([keyOf('ada')])
  await clock.settle()
  let closed = false
  const closing = app.close().then(() => { closed = true })
  await clock.settle()
  t.notOk(closed)
  source.last.answer('ada')
  await closing
  t.same(await preload, { loaded: 1, failed: 0 })
  t.equal(source.listener, null)
  t.equal(clock.pendingTimers, 0)
})

t.test('wrong options are refused at registration', async t => {
  const app = fastify()
  t.teardown(() => app.close().catch(() => {}))
  await t.rejects(async () => { await app.register(sessionCache, { maxEntries: -1 }) }, { code: 'ORI_CONTRACT_INVALID_OPTION', message: /@orientor\/session-cache: option "maxEntries"/ })
})

t.test('the package exports the plugin under both names, and types the app', async t => {
  t.equal(sessionCache, named)
  expectTypeOf<FastifyInstance['sessionCache']>().toEqualTypeOf<SessionCache>()
  expectTypeOf<CacheErrorCode>().toEqualTypeOf<'ORI_CACHE_MALFORMED_RECORD' | 'ORI_CACHE_MALFORMED_BATCH' | 'ORI_CACHE_NO_SOURCE' | 'ORI_CACHE_NO_POOL' | 'ORI_CACHE_STATEMENT_REFUSED' | 'ORI_CACHE_BUS_UNAVAILABLE' | 'ORI_CACHE_BELL_UNAVAILABLE' | 'ORI_CACHE_NO_REDIS' | 'ORI_CACHE_NO_BUS_POOL'>()
  // @ts-expect-error there is no such option
  const wrong: SessionCacheOptions = { ttl: 5 }
  t.ok(wrong)
})

t.test('nothing but the shell knows Fastify', async t => {
  const core = new URL('../src/core.ts', import.meta.url)
  for (const file of readdirSync(new URL('.', core), { recursive: true, encoding: 'utf8' })) {
    if (file === 'plugin.ts' || file === 'index.ts' || !file.endsWith('.ts')) continue
    t.notMatch(readFileSync(new URL(file, core), 'utf8'), /from '(fastify|fastify-plugin|@orientor\/session-contract)'/, file)
  }
})
