import { readFileSync } from 'node:fs'
import { createIdentity, requireSessionUser, sessionHub, type Component, type UserChange } from '@orientor/session-contract'
import { smartSync, type PoolLike, type StatementConfig } from '@orientor/smart-sync'
import { ManualClock, testDatabase, until } from '@orientor/test-kit'
import { fastify, type FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { resolveOptions, type InvalidationBus } from '../src/core.js'
import sessionCache, { type SessionCacheOptions } from '../src/index.js'
import { postgresBus, strictTimes } from '../src/postgres.js'
import { memoryBus, MemoryHub } from '../src/testing.js'
import { directorySource } from './fixtures/own-source.js'
import { withCoherence } from './fixtures/own-table.js'
import { quietPool } from './fixtures/watched-database.js'
import { HandSource, hashOf, identityOf, issuer, keyOf, recordOf, route } from './fixtures/setup.js'

const as = (subject: string): { url: string, headers: Record<string, string> } => ({ url: '/me', headers: { 'x-user': subject } })

/** An app with its own authentication (a header), and the lines of its log. */
async function appOf (t: Test, register: (app: FastifyInstance) => unknown): Promise<{ app: FastifyInstance, log: Array<{ msg: string }>, component: Component }> {
  const log: Array<{ msg: string }> = []
  const app: FastifyInstance = fastify({ logger: { level: 'info', stream: { write: (line: string) => { log.push(JSON.parse(line) as { msg: string }) } } } })
  t.teardown(() => app.close())
  sessionHub(app).fill('identify', 'test', request => {
    const subject = request.headers['x-user']
    return typeof subject === 'string' ? identityOf(subject) : { kind: 'anonymous' }
  })
  await register(app)
  app.get('/me', { config: { session: { required: true } } }, request => requireSessionUser(request))
  await app.ready()
  return { app, log, component: sessionHub(app).components.find(({ name }) => name === 'sessionCache')! }
}

interface Instance { readonly app: FastifyInstance, readonly source: HandSource, readonly bus: InvalidationBus, readonly component: Component, readonly log: Array<{ msg: string }> }

/** Instances on one clock and one hub, whose source says what revision it reads. */
async function instances (t: Test, count: number, options: SessionCacheOptions = {}): Promise<{ clock: ManualClock, hub: MemoryHub, made: Instance[], row: { revision: number } }> {
  const clock = new ManualClock()
  const hub = new MemoryHub()
  const row = { revision: 1 }
  const made: Instance[] = []
  for (let index = 0; index < count; index++) {
    const source = new HandSource()
    source.reply = ({ subject }) => recordOf(subject, { revision: row.revision }, { firstName: `revision ${row.revision}` })
    const bus = memoryBus({ hub, clock })
    made.push({ source, bus, ...await appOf(t, app => app.register(sessionCache, { source, bus, clock, random: () => 0, ...options })) })
  }
  return { clock, hub, made, row }
}

/** Lets time pass, and what is asked meanwhile be answered. */
async function pass (clock: ManualClock, ms: number): Promise<void> {
  for (let leftMs = ms; leftMs > 0; leftMs -= 50) {
    clock.advance(Math.min(50, leftMs))
    await clock.settle(5)
  }
}

const shown = async (app: FastifyInstance): Promise<unknown> => {
  const reply = await app.inject(as('ada'))
  return reply.statusCode === 200 ? `${reply.json<{ firstName: string }>().firstName}${reply.headers['x-session-stale'] === '1' ? ', stale' : ''}` : reply.statusCode
}

t.test('caches on a bus', async t => {
  t.test('tell at the start whether it is trusted', async t => {
    const { made: [one] } = await instances(t, 1)
    t.ok(one!.log.some(({ msg }) => /^session: identify=test resolve=@orientor\/session-cache\(source of its own\) source=none bus=memory\(trusted\)$/.test(msg)), JSON.stringify(one!.log))
  })

  t.test('see a change that one of them was told of', async t => {
    const { made: [one, two], row } = await instances(t, 2)
    t.same([await shown(one!.app), await shown(two!.app)], ['revision 1', 'revision 1'])
    row.revision = 2
    t.same([await shown(one!.app), await shown(two!.app)], ['revision 1', 'revision 1'])
    t.ok(one!.app.sessionCache.invalidateUser({ issuer, subject: 'ada' }))
    t.same([await shown(one!.app), await shown(two!.app)], ['revision 2', 'revision 2'])
    row.revision = 3
    t.equal(one!.app.sessionCache.invalidateAll('test'), 1)
    t.same([await shown(one!.app), await shown(two!.app)], ['revision 3', 'revision 3'])
  })

  t.test('see what the source of one of them wrote itself', async t => {
    const { made: [one, two], row } = await instances(t, 2)
    await shown(one!.app)
    await shown(two!.app)
    row.revision = 2
    one!.source.listener!({ kind: 'user', keyHash: hashOf('ada'), revision: 2 })
    t.same([await shown(one!.app), await shown(two!.app)], ['revision 2', 'revision 2'])
  })

  t.test('keep a user whose announced revision they know', async t => {
    const { made: [one, two] } = await instances(t, 2)
    await shown(one!.app)
    await two!.bus.publish({ kind: 'user', keyHash: hashOf('ada'), revision: 1 })
    await shown(one!.app)
    t.equal(one!.source.calls.length, 1)
  })

  t.test('answer an administrator with the number of instances that were told, and fail when nobody could be', async t => {
    const { made: [one, two], hub, row } = await instances(t, 2)
    await shown(two!.app)
    row.revision = 2
    t.same(await one!.component.admin!.invalidate!({ key: keyOf('ada') }, 'test'), { instances: 2 })
    t.equal(await shown(two!.app), 'revision 2')
    t.same(await one!.component.admin!.invalidate!('all', 'test'), { instances: 2 })
    hub.refuse()
    await t.rejects(one!.component.admin!.invalidate!('all', 'test'), { code: 'ORI_CACHE_BUS_UNAVAILABLE', statusCode: 503 })
    one!.app.sessionCache.invalidateUser(keyOf('ada'))
    await new Promise(resolve => { setImmediate(resolve) })
    t.ok(one!.log.some(({ msg }) => msg === 'session cache: the other instances could not be told of a change'))
  })

  t.test('are healthy while the bus is trusted, and say why when it is not', async t => {
    const { made: [one], hub, clock } = await instances(t, 1)
    t.match(await one!.component.health(), { status: 'healthy' })
    hub.refuse()
    await pass(clock, 200)
    t.match(await one!.component.health(), { status: 'degraded', reason: /^It is not proven .* users are kept for 5000 ms only: The hub refuses polls$/ })
    hub.heal()
    await pass(clock, 200)
    t.match(await one!.component.health(), { status: 'healthy' })
  })

  t.test('serve nobody unmarked who is older than the bound while nothing arrives, and a marked one while the source is away', async t => {
    const { made: [one], hub, clock, row } = await instances(t, 1)
    await shown(one!.app)
    await pass(clock, 20_000)
    t.equal(await shown(one!.app), 'revision 1')
    t.equal(one!.source.calls.length, 1, 'polls keep it fresh')
    hub.hold()
    row.revision = 2
    await pass(clock, 3900)
    t.equal(await shown(one!.app), 'revision 1', 'within the bound')
    await pass(clock, 1200)
    t.equal(await shown(one!.app), 'revision 2')
  })

  t.test('load what they hold anew when an epoch begins, without being asked', async t => {
    const { made: [one], hub, clock, row } = await instances(t, 1)
    await shown(one!.app)
    hub.refuse()
    await pass(clock, 500)
    hub.heal()
    await pass(clock, 1000)
    t.equal(one!.source.calls.length, 1, 'polls that failed lose nothing')
    row.revision = 2
    hub.failOver()
    await pass(clock, 1000)
    t.equal(one!.source.calls.length, 2)
    t.equal(await shown(one!.app), 'revision 2')
    t.equal(one!.source.calls.length, 2)
  })

  t.test('leave the bus when the app closes', async t => {
    const { made: [one, two], hub } = await instances(t, 2)
    await one!.app.close()
    t.equal(hub.instances, 1)
    await two!.app.close()
    t.equal(hub.instances, 0)
  })

  t.test('do not start the bus where nobody knows users', async t => {
    const bus = memoryBus({ hub: new MemoryHub() })
    const { log } = await appOf(t, app => app.register(sessionCache, { bus }))
    t.ok(log.some(({ msg }) => msg.endsWith('bus=memory(no source)')))
  })
})

t.test('a bus that is not trusted five seconds after the start', async t => {
  const warnings = (log: ReadonlyArray<{ msg: string }>): string[] => log.map(({ msg }) => msg).filter(msg => msg.includes('after the start'))
  const started = async (t: Test, { bus, clock, withSource = true }: { bus: (clock: ManualClock, hub: MemoryHub) => InvalidationBus, clock: ManualClock, withSource?: boolean }): Promise<{ log: Array<{ msg: string }>, hub: MemoryHub, app: FastifyInstance }> => {
    const hub = new MemoryHub()
    hub.refuse()
    const source = Object.assign(new HandSource(), { watches: [{ table: 'people', issuer: { always: issuer }, subject: 'sub', revision: null, columns: [] }] })
    return { hub, ...await appOf(t, app => app.register(sessionCache, { bus: bus(clock, hub), clock, ...withSource && { source } })) }
  }
  const inMemory = (clock: ManualClock, hub: MemoryHub): InvalidationBus => memoryBus({ hub, clock })
  const nowhere = (): InvalidationBus => postgresBus({ pool: quietPool({ connectionString: 'postgres://127.0.0.1:1/none' }) as unknown as PoolLike })

  t.test('is warned about once, with reason and remedy', async t => {
    for (const [bus, withSource, message] of [
      [inMemory, true, 'The hub refuses polls. Until then users are kept for maxStalenessMs (5000) only'],
      [nowhere, true, 'The database could not be asked (ECONNREFUSED). Check that the pool reaches the primary, and whether pollTimeoutMs is enough for that. Until'],
      [nowhere, false, 'Not started. Give the cache a source of users']
    ] as const) {
      const clock = new ManualClock()
      const { log } = await started(t, { bus, clock, withSource })
      await pass(clock, 4999)
      t.same(warnings(log), [])
      await pass(clock, 1)
      t.equal(warnings(log).length, 1)
      t.ok(warnings(log)[0]!.startsWith(`session bus: not trusted 5 s after the start. ${message}`), warnings(log).join())
      await pass(clock, 20_000)
      t.equal(warnings(log).length, 1)
    }
  })

  t.test('is not warned about when trust comes before, nor when the app closes', async t => {
    const clock = new ManualClock()
    const { log, hub } = await started(t, { bus: inMemory, clock })
    hub.heal()
    await pass(clock, 5000)
    t.same(warnings(log), [])
    const other = new ManualClock()
    const { log: closedLog, app } = await started(t, { bus: inMemory, clock: other })
    await app.close()
    t.equal(other.pendingTimers, 0)
    other.advance(5000)
    t.same(warnings(closedLog), [])
  })

  t.test('fails the start when what is to be watched is not there', async t => {
    const { url } = await testDatabase(t)
    const pool = new pg.Pool({ connectionString: url })
    t.teardown(() => pool.end())
    await pool.query('CREATE TABLE people (name text, email text)')
    const source = Object.assign(new HandSource(), { watches: [{ table: 'people', issuer: { always: issuer }, subject: 'name', revision: null, columns: ['emial'] }] })
    await t.rejects(appOf(t, app => app.register(sessionCache, { source, bus: postgresBus({ pool: pool as unknown as PoolLike }) })), {
      code: 'ORI_CONTRACT_INVALID_OPTION', message: '@orientor/session-cache/postgres: what is watched is not there. The table "people" has no column "emial". Its columns are name, email. Mend "watches", of the source or of the bus.'
    })
  })
})

t.test('a load may take what the bus leaves of its bound', async t => {
  const bus = memoryBus({ hub: new MemoryHub() })
  t.equal(resolveOptions({ bus }).loadTimeoutMs, 2000)
  t.equal(resolveOptions({ bus: memoryBus({ hub: new MemoryHub(), ...strictTimes }) }).loadTimeoutMs, 1100)
  t.equal(resolveOptions({ bus, loadTimeoutMs: 500 }).loadTimeoutMs, 500)
  t.equal(resolveOptions({}).loadTimeoutMs, 2000)
  t.throws(() => resolveOptions({ bus, loadTimeoutMs: 2801 }), {
    code: 'ORI_CONTRACT_INVALID_OPTION',
    message: /option "loadTimeoutMs" must not be above what the bus leaves, .*\(5000 - 2200 = 2800\); received 2801\. Write loadTimeoutMs: 2800, or give the bus maxStalenessMs: 5001\./
  })
  t.throws(() => resolveOptions({ bus: {} as InvalidationBus }), { message: /option "bus"/ })
})

/** A stack on a database, with a count of its statements. */
async function stack (t: Test, url: string, { cacheFirst = true, maxEntries = 20_000 } = {}): Promise<{ app: FastifyInstance, log: Array<{ msg: string }>, bus: InvalidationBus, changes: UserChange[], pool: pg.Pool, sent: { count: number, atOnce: number, mostAtOnce: number } }> {
  const pool = new pg.Pool({ connectionString: url, max: 10 })
  pool.on('error', () => {})
  const sent = { count: 0, atOnce: 0, mostAtOnce: 0 }
  const counted: PoolLike = {
    async query (statement: StatementConfig) {
      sent.count++
      sent.mostAtOnce = Math.max(sent.mostAtOnce, ++sent.atOnce)
      try {
        return await (pool as PoolLike).query(statement)
      } finally {
        sent.atOnce--
      }
    },
    connect: () => (pool as PoolLike).connect()
  }
  // It is about statements, not about how long a machine takes for them.
  const bus = postgresBus({ pool: pool as unknown as PoolLike, pollTimeoutMs: 10_000, maxStalenessMs: 60_000 })
  const changes: UserChange[] = []
  bus.subscribe(change => { changes.push(change) })
  const cache = (app: FastifyInstance) => app.register(sessionCache, { bus, maxEntries, loadTimeoutMs: 20_000 })
  const sync = (app: FastifyInstance) => app.register(smartSync, { pool: counted })
  const { app, log } = await appOf(t, async app => {
    for (const register of cacheFirst ? [cache, sync] : [sync, cache]) await register(app)
  })
  t.teardown(async () => {
    await app.close()
    await pool.end()
  })
  return { app, log, bus, changes, pool, sent }
}

t.test('the README shows its examples as they are', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  for (const name of ['own-table', 'own-source']) {
    t.ok(readme.includes(`\`\`\`ts\n${readFileSync(new URL(`fixtures/${name}.ts`, import.meta.url), 'utf8')}\`\`\``), name)
  }
})

t.test('a source of one\'s own answers as the README shows it', async t => {
  const down = new Error('down')
  const source = directorySource(async ids => {
    if (ids.includes('down')) throw down
    return ids.filter(id => id !== 'eve').map(id => ({ id, mail: `${id}@example.com`, changes: 3, blocked: id === 'bob' }))
  })
  const { app } = await appOf(t, app => app.register(sessionCache, { source }))
  t.match((await app.inject(as('ada'))).json(), { email: 'ada@example.com', extra: {} })
  const statuses = await Promise.all(['bob', 'eve'].map(async subject => (await app.inject(as(subject))).statusCode))
  t.same([...statuses, (await app.inject(as('down'))).statusCode], [403, 401, 503])
})

t.test('a table of one\'s own is watched as the README shows it', async t => {
  const { url } = await testDatabase(t)
  const pool = new pg.Pool({ connectionString: url })
  pool.on('error', () => {})
  await pool.query("CREATE TABLE people (id int, name text UNIQUE, email text); INSERT INTO people VALUES (1, 'ada', 'ada@example.com')")
  const app: FastifyInstance = fastify()
  sessionHub(app).fill('identify', 'test', request => createIdentity({ issuer: 'https://id.example.com', subject: String(request.headers['x-user']) }))
  app.decorate('pg' as never, { pool } as never)
  await withCoherence(app)
  app.get('/me', { config: { session: { required: true } } }, request => requireSessionUser(request))
  t.teardown(async () => {
    await app.close()
    await pool.end()
  })
  const email = async (): Promise<string> => (await app.inject(as('ada'))).json<{ email: string }>().email
  t.equal(await email(), 'ada@example.com')
  await pool.query("UPDATE people SET email = 'countess@example.com'")
  await until('the change is seen', async () => await email() === 'countess@example.com')
})

const manyUsers = 10_000

t.test('a stack on PostgreSQL', async t => {
  for (const cacheFirst of [true, false]) {
    t.test(`trusts its bus at the start, with the ${cacheFirst ? 'cache' : 'source'} registered first and the tables not made yet`, async t => {
      const { url } = await testDatabase(t)
      const { app, log, bus, pool } = await stack(t, url, { cacheFirst })
      t.ok(log.some(({ msg }) => msg === 'session: identify=test resolve=@orientor/session-cache source=@orientor/smart-sync bus=postgres(trusted)'), JSON.stringify(log))
      t.match((await app.inject(as('ada'))).json(), { subject: 'ada' })
      const { epoch } = bus.trust
      await pool.query("UPDATE users SET first_name = 'Ada'")
      await until('the change is seen', async () => (await app.inject(as('ada'))).json<{ firstName: string }>().firstName === 'Ada')
      await pool.query('UPDATE users SET is_active = false')
      await until('the change is seen', async () => (await app.inject(as('ada'))).statusCode === 403)
      t.equal(bus.trust.epoch, epoch)
    })
  }

  t.test('keeps what it loaded itself while ten thousand users come for the first time, and loads them anew in few statements after an epoch', async t => {
    const { url } = await testDatabase(t)
    const { app, bus, changes, pool, sent } = await stack(t, url)
    const subjects = Array.from({ length: manyUsers }, (_, index) => `user-${index}`)
    for (let start = 0; start < subjects.length; start += 1000) {
      const outcomes = await Promise.all(subjects.slice(start, start + 1000).map(subject => sessionHub(app).slots.resolve!(identityOf(subject), route)))
      t.ok(outcomes.every(({ kind }) => kind === 'user'))
    }
    await until('every row was announced', () => changes.length >= manyUsers)
    t.equal(changes.filter(({ kind }) => kind === 'all').length, 0)
    t.match(app.sessionCache.stats(), { entries: manyUsers, invalidations: 0 })

    const { epoch } = bus.trust
    const { count } = sent
    sent.mostAtOnce = 0
    // As after a failover.
    await pool.query('UPDATE orientor_outbox_mark SET token = gen_random_uuid()')
    await until('an epoch began', () => bus.trust.epoch > epoch && bus.status().trusted)
    await until('everybody was loaded anew', () => app.sessionCache.stats().loads >= 2 * manyUsers && app.sessionCache.stats().inFlight === 0)
    const statements = sent.count - count
    t.comment(JSON.stringify({ users: manyUsers, statements, mostAtOnce: sent.mostAtOnce }))
    t.ok(statements <= 50, `${statements} statements`)
    t.ok(sent.mostAtOnce <= 4, `${sent.mostAtOnce} at once`)
    const before = app.sessionCache.stats()
    await app.inject(as('user-77'))
    t.match(app.sessionCache.stats(), { cacheHits: before.cacheHits + 1, cacheMisses: before.cacheMisses })

    // What announces was gone for an instant: everybody is loaded anew just so.
    const { loads } = before
    await pool.query('ALTER TABLE users DISABLE TRIGGER USER; ALTER TABLE users ENABLE TRIGGER USER')
    await until('everybody was loaded anew', () => app.sessionCache.stats().loads >= loads + manyUsers)
  })
})
