import { perfRoutes } from '@orientor/perf-routes'
import { poolTuning } from '@orientor/pool-tuning'
import { sessionCache } from '@orientor/session-cache'
import { sessionIdentity } from '@orientor/session-identity'
import { smartSync } from '@orientor/smart-sync'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { testDatabase } from '@orientor/test-kit'
import Fastify, { type FastifyInstance } from 'fastify'
import pg from 'pg'
import t from 'tap'

type Part = 'identity' | 'cache' | 'sync' | 'pool' | 'perf'
const parts: readonly Part[] = ['identity', 'cache', 'sync', 'pool', 'perf']

const { url } = await testDatabase(t)
const shared = new pg.Pool({ connectionString: url })
t.teardown(() => shared.end())
const clerk = await clerkSimulator()
await clerk.listen({ port: 0, host: '127.0.0.1' })
t.teardown(() => clerk.close())
const { simulator } = clerk
const { id } = await simulator.createUser({ firstName: 'Ada', email: 'ada@example.com' })
const headers = { authorization: `Bearer ${await simulator.mintToken({ userId: id, lifetimeSeconds: 3600 })}` }
const key = 'k'.repeat(32)

/** Registers without awaiting, in the order given, the route among them. */
function register (scope: FastifyInstance, order: readonly Part[]): void {
  const clerkApi = { secretKey: simulator.secretKey, apiUrl: simulator.apiUrl, issuer: simulator.issuer }
  for (const part of order) {
    if (part === 'identity') scope.register(sessionIdentity, { issuer: simulator.issuer })
    if (part === 'cache') scope.register(sessionCache)
    if (part === 'sync') scope.register(smartSync, order.includes('pool') ? { clerk: clerkApi } : { clerk: clerkApi, pool: shared })
    if (part === 'pool') scope.register(poolTuning, { connectionString: url, preset: 'development', echoSql: false })
    if (part === 'perf') scope.register(perfRoutes, { authorize: false })
  }
  scope.get('/me', async request => ({ user: request.sessionUser?.subject ?? null, identity: request.identity?.subject ?? null, outcome: request.sessionOutcome?.kind ?? null }))
}

function expected (order: readonly Part[]): object {
  if (order.length === 0) return { user: null, identity: null, outcome: null }
  if (!order.includes('identity')) return { user: null, identity: null, outcome: 'anonymous' }
  return order.includes('sync') ? { user: id, identity: id, outcome: 'user' } : { user: null, identity: id, outcome: 'identified' }
}

function * orders (rest: readonly Part[], chosen: readonly Part[] = []): Generator<readonly Part[]> {
  yield chosen
  for (const part of rest) yield * orders(rest.filter(other => other !== part), [...chosen, part])
}

t.test('every subset of the plugins serves in every order, registered without awaiting', async t => {
  let tried = 0
  for (const order of orders(parts)) {
    const app = Fastify()
    register(app, order)
    const reply = await app.inject({ url: '/me', headers })
    const found = reply.json<object>()
    if (JSON.stringify(found) !== JSON.stringify(expected(order))) t.strictSame(found, expected(order), order.join(' '))
    await app.close()
    tried++
  }
  t.equal(tried, 326, 'the empty one included')
})

t.test('plugins of a parent serve its children, whole sets live side by side, and scopes before them stay outside', async t => {
  const app = Fastify()
  app.register(async before => { before.get('/before', async request => ({ session: 'sessionOutcome' in request ? request.sessionOutcome : null })) })
  app.register(async one => {
    register(one, ['identity', 'sync', 'cache'])
    one.register(async child => { child.get('/child', { config: { session: { required: true } } }, async request => ({ user: request.sessionUser?.subject })) })
  })
  app.register(async two => { register(two, ['perf']) }, { prefix: '/two' })
  app.register(async three => { register(three, ['cache', 'identity', 'pool', 'sync']) }, { prefix: '/three' })
  t.strictSame((await app.inject({ url: '/child', headers })).json(), { user: id })
  t.equal((await app.inject('/child')).statusCode, 401)
  t.strictSame((await app.inject({ url: '/two/me', headers })).json(), { user: null, identity: null, outcome: 'anonymous' })
  t.strictSame((await app.inject({ url: '/three/me', headers })).json(), { user: id, identity: id, outcome: 'user' })
  t.strictSame((await app.inject({ url: '/before', headers })).json(), { session: null })
  await app.close()
})

t.test('an unknown option of any plugin fails the start and says what is known', async t => {
  const registrations: ReadonlyArray<(app: FastifyInstance) => void> = [
    app => { app.register(sessionIdentity, { issuer: simulator.issuer, jwksURL: 'x' } as never) },
    app => { app.register(sessionCache, { ttl: 5 } as never) },
    app => { app.register(smartSync, { pool: shared, forceSync: 5 } as never) },
    app => { app.register(poolTuning, { connectionString: url, max: 5 } as never) },
    app => { app.register(perfRoutes, { authorize: () => true, key } as never) }
  ]
  for (const registration of registrations) {
    const app = Fastify()
    registration(app)
    await t.rejects(async () => { await app.ready() }, { code: 'ORI_CONTRACT_INVALID_OPTION', message: /is not known|Write/ })
    await app.close()
  }
})
