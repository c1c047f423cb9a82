import pg from 'pg'
import t, { type Test } from 'tap'
import { oddTypeParsers, startPgBouncer, testDatabase, until, withoutPgBouncer } from '@orientor/test-kit'
import { DatabaseConnectionOptimizer, type PoolTuningOptions } from '../src/core.js'
import { resolveOptions } from '../src/options.js'
import { SettingsDelivery } from '../src/session-settings.js'

t.test('values come from the option, else the environment, else the preset, and say so', async t => {
  const railway = resolveOptions({ environment: { RAILWAY_ENVIRONMENT: 'production', RAILWAY_POOL_SIZE: '4', RAILWAY_POOL_TIMEOUT: '10' }, overflow: 1 })
  t.match(railway, { preset: 'railway', size: 4, overflow: 1, timeoutMs: 10_000, recycleMs: 3_600_000 })
  t.match(railway.origins, { preset: 'environment RAILWAY_ENVIRONMENT', size: 'environment RAILWAY_POOL_SIZE', overflow: 'option', recycleMs: 'preset railway', drainMs: 'default' })
  t.match(resolveOptions({ environment: { NODE_ENV: 'production', PRODUCTION_POOL_RECYCLE: '60' } }), { preset: 'production', size: 8, overflow: 15, recycleMs: 60_000 })
  t.match(resolveOptions({ environment: { NODE_ENV: 'development', DEV_ECHO_SQL: 'true' } }), { preset: 'development', echoSql: true, leakTraceAfterMs: 10_000 })
  t.match(resolveOptions({ environment: { DEV_POOL_SIZE: '9' } }), { preset: 'base', size: 5, overflow: 10, timeoutMs: 30_000, minConnections: 1 })
  t.match(resolveOptions({ preset: 'base', environment: {}, timeoutMs: 300, settings: { statement_timeout: null, lock_timeout: 0 } }), { connectTimeoutMs: 300, settings: { statement_timeout: null, lock_timeout: 0 } })
})

t.test('senseless options are refused with what to write instead', async t => {
  const refused: ReadonlyArray<readonly [object, RegExp]> = [
    [{ overflow: -1 }, /"overflow" must be an integer from 0/],
    [{ timeoutMs: 30 }, /looks like seconds.*write timeoutMs: 30000/],
    [{ recycleMs: 3600 }, /write recycleMs: 3600000/],
    [{ settings: { statement_timeout: 30 } }, /write statement_timeout: 30000/],
    [{ settings: { statement_timeuot: 1 } }, /"statement_timeuot" is not known/],
    [{ settings: { effective_cache_size: '1; DROP' } }, /a size such as/],
    [{ poolSise: 3 }, /"poolSise" is not known/],
    [{ size: 2, minConnections: 3 }, /must not be above size \(2\)/],
    [{ preset: 'railway', environment: { RAILWAY_POOL_TIMEOUT: '20000' } }, /read in seconds: for 20000 ms write 20/],
    [{ preset: 'railway', environment: { RAILWAY_POOL_SIZE: 'many' } }, /RAILWAY_POOL_SIZE must be a whole number from 1/],
    [{ preset: 'development', environment: { DEV_ECHO_SQL: 'perhaps' } }, /"true" or "false"/]
  ]
  for (const [options, message] of refused) t.throws(() => resolveOptions({ environment: {}, ...options }), { code: 'ORI_CONTRACT_INVALID_OPTION', message })
})

const query = "SELECT current_setting('statement_timeout') AS s, current_setting('random_page_cost') AS r"
async function optimizer (t: Test, url: string, options: PoolTuningOptions = {}): Promise<{ optimizer: DatabaseConnectionOptimizer, messages: string[] }> {
  const messages: string[] = []
  const note = (details: object, message: string): void => { messages.push(`${message} ${JSON.stringify(details)}`) }
  const optimizer = new DatabaseConnectionOptimizer({ connectionString: url, environment: {}, drainMs: 100, ...options }, { logger: { info: note, warn: note, error: note } })
  t.teardown(() => optimizer.close())
  await optimizer.start()
  return { optimizer, messages }
}

t.test('options of pg-pool and @fastify/postgres are refused, with what takes their place', async t => {
  const refused: ReadonlyArray<readonly [object, RegExp]> = [
    [{ max: 20 }, /option "max" is not known here; received 20 \(number\)\. In its place: connections are counted by size.* and overflow.*size: 10, overflow: 10/],
    [{ max: 5 }, /size: 3, overflow: 2/],
    [{ max: 'many' }, /size: 5, overflow: 5/],
    [{ client: { max: 20 } }, /option "client\.max" is not known here.*size: 10, overflow: 10/],
    [{ min: 2 }, /minConnections/],
    [{ client: { min: 2 } }, /"client\.min".*minConnections/],
    [{ poolSize: 3 }, /size and overflow/],
    [{ idleTimeoutMillis: 1000 }, /overflowIdleMs/],
    [{ maxLifetimeSeconds: 60 }, /recycleMs, in milliseconds/],
    [{ client: { maxUses: 7500 } }, /recycleMs/],
    [{ allowExitOnIdle: true }, /close the app/],
    [{ connectionTimeoutMillis: 1000 }, /client: \{ connectionTimeoutMillis: … \}/],
    [{ host: 'db' }, /client: \{ host: … \}/],
    [{ password: 'hunter2' }, /received a string of 7 characters.*client: \{ password: … \}/],
    [{ ssl: { ca: 'x' } }, /client: \{ ssl: … \}/],
    [{ statement_timeout: 1000 }, /client: \{ statement_timeout: … \}/],
    [{ name: 'second' }, /once more in a child scope/],
    [{ native: true }, /pg-native is not supported/],
    [{ pg }, /the driver is the pg/]
  ]
  for (const [options, message] of refused) t.throws(() => resolveOptions({ environment: {}, ...options }), { code: 'ORI_CONTRACT_INVALID_OPTION', message }, Object.keys(options).join())
  t.doesNotThrow(() => resolveOptions({ environment: {}, client: { connectionTimeoutMillis: 1000, host: 'db', name: 'x' } }))
})

const planner = "SELECT current_setting('effective_cache_size') AS e, current_setting('random_page_cost') AS r"
const builtIn = { e: '4GB', r: '4' }
const small = { e: '256MB', r: '1.1' }

t.test('what the planner reckons with is set where the preset is railway, or where it is asked for', async t => {
  const { url } = await testDatabase(t)
  const cases: ReadonlyArray<readonly [PoolTuningOptions, object]> = [
    [{ preset: 'railway' }, small],
    [{ environment: { RAILWAY_ENVIRONMENT: 'production' } }, small],
    [{ preset: 'base' }, builtIn],
    [{ preset: 'production' }, builtIn],
    [{ preset: 'development' }, builtIn],
    [{ settings: { random_page_cost: 2 } }, { ...builtIn, r: '2' }],
    [{ preset: 'production', settings: { effective_cache_size: '1GB' } }, { ...builtIn, e: '1GB' }],
    [{ preset: 'railway', settings: { random_page_cost: null } }, { ...small, r: '4' }],
    [{ preset: 'railway', settings: { random_page_cost: undefined } as never }, small],
    [{ preset: 'railway', client: { options: '-c random_page_cost=3' } }, { ...small, r: '3' }],
    [{ preset: 'railway', delivery: 'set' }, small],
    [{ preset: 'railway', delivery: 'role' }, builtIn],
    [{ preset: 'railway', resetOnReturn: 'discard' }, small]
  ]
  for (const [options, expected] of cases) {
    const { optimizer: it, messages } = await optimizer(t, url, { size: 2, overflow: 1, ...options })
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(Array.from({ length: 3 }, () => it.pool.query(`${planner}, pg_sleep(0.01)`)))
      for (const { rows } of answers) t.match(rows, [expected], JSON.stringify(options))
    }
    t.strictSame(messages.filter(message => !message.includes('statement')), [])
    t.match(it.pool.stats(), { openFailures: 0, lost: 0, retries: 0 }, 'and nobody notices')
    await it.close()
  }
})

t.test('what somebody set at the server stays as it is, whoever asks, and explain() says where it is set', async t => {
  const { url } = await testDatabase(t)
  const database = new URL(url).pathname.slice(1)
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  const role = new URL(url)
  role.username = `role_${database}`
  role.password = 'x'
  await operator.query(`CREATE ROLE ${role.username} LOGIN PASSWORD 'x'`)
  t.teardown(async () => {
    await operator.query('ALTER SYSTEM RESET random_page_cost')
    await operator.query('SELECT pg_reload_conf()')
    await operator.query(`DROP OWNED BY ${role.username}; DROP ROLE ${role.username}`)
    await operator.end()
  })
  const set: ReadonlyArray<readonly [set: string, reset: string, source: string]> = [
    [`ALTER DATABASE ${database} SET random_page_cost = 2.5`, `ALTER DATABASE ${database} RESET random_page_cost`, 'database'],
    [`ALTER ROLE ${role.username} SET random_page_cost = 2.5`, `ALTER ROLE ${role.username} RESET random_page_cost`, 'user'],
    [`ALTER ROLE ${role.username} IN DATABASE ${database} SET random_page_cost = 2.5`, `ALTER ROLE ${role.username} IN DATABASE ${database} RESET random_page_cost`, 'database user'],
    // The same as the built-in default, and meant.
    [`ALTER DATABASE ${database} SET random_page_cost = 4`, `ALTER DATABASE ${database} RESET random_page_cost`, 'database'],
    ['ALTER SYSTEM SET random_page_cost = 2.5', 'ALTER SYSTEM RESET random_page_cost', 'configuration file']
  ]
  const asked: readonly PoolTuningOptions[] = [{ preset: 'railway' }, { settings: { random_page_cost: 1.5, effective_cache_size: '256MB' } }, { preset: 'railway', delivery: 'set' }, { preset: 'railway', delivery: 'transaction' }]
  const loadedAt = async (): Promise<string> => {
    const newcomer = new pg.Client({ connectionString: url })
    await newcomer.connect()
    const { rows: [{ at }] } = await newcomer.query('SELECT pg_conf_load_time()::text AS at')
    await newcomer.end()
    return at as string
  }
  const reload = async (): Promise<void> => {
    const before = await loadedAt()
    await operator.query('SELECT pg_reload_conf()')
    await until('new sessions have what was set', async () => await loadedAt() !== before)
  }
  for (const [setIt, resetIt, source] of set) {
    await operator.query(setIt)
    await reload()
    for (const options of asked) {
      const { optimizer: it } = await optimizer(t, role.href, { size: 2, overflow: 0, ...options })
      const expected = [{ e: '256MB', r: setIt.includes('= 4') ? '4' : '2.5' }]
      for (let round = 0; round < 2; round++) {
        t.strictSame(await it.transact(async client => (await client.query(planner)).rows), expected, `${source} ${JSON.stringify(options)}`)
      }
      t.match(it.explain().settings.find(({ setting }) => setting === 'random_page_cost'), { delivery: `left to the server, which has its own (${source})` })
      await it.close()
    }
    await operator.query(resetIt)
    await reload()
  }
})

t.test('a server that does not tell where its settings come from keeps them', async t => {
  const { url } = await testDatabase(t)
  const { optimizer: it } = await optimizer(t, url, { preset: 'railway', client: { options: '-c default_transaction_read_only=on' } })
  t.match((await it.pool.query(planner)).rows, [small])
  const delivery = new SettingsDelivery(resolveOptions({ preset: 'railway', environment: {} }).settings, 'auto', {})
  const refusing = { query: async () => { throw Object.assign(new Error('no such view'), { code: '42P01' }) } } as unknown as pg.Client
  t.equal(await delivery.decide(refusing, ''), false)
  t.match([...delivery.kept.values()], ['not known', 'not known'])
  const away = { query: async () => { throw Object.assign(new Error('gone'), { code: '57P01' }) } } as unknown as pg.Client
  await t.rejects(new SettingsDelivery(resolveOptions({ preset: 'railway', environment: {} }).settings, 'auto', {}).decide(away, ''), { code: '57P01' })
})

t.test('nothing that the app sets for all of its process changes what the pool finds', async t => {
  const { url } = await testDatabase(t)
  oddTypeParsers(t, pg)
  for (const binary of [false, true]) {
    pg.defaults.binary = binary
    const { optimizer: it, messages } = await optimizer(t, url, { preset: 'railway' })
    t.match(it.explain(), { pooler: false, advice: null }, `binary ${binary}`)
    t.strictSame(messages, [])
    t.match(it.explain().settings.map(({ delivery }) => delivery), ['startup', 'startup', 'startup', 'startup', 'startup'])
    t.match(await it.health(), { status: 'healthy' })
    t.match((await it.pool.query({ text: query, types: { getTypeParser: () => String } as never })).rows, [{ s: '30s', r: '1.1' }])
    await it.close()
    const tooLarge = new DatabaseConnectionOptimizer({ connectionString: url, environment: {}, size: 900 })
    t.teardown(() => tooLarge.close())
    await t.rejects(tooLarge.start(), { code: 'ORI_POOL_LARGER_THAN_SERVER' })
  }
})

t.test('each delivery puts the settings where it says', async t => {
  const { url } = await testDatabase(t)
  const { optimizer: set } = await optimizer(t, url, { preset: 'railway', delivery: 'set', resetOnReturn: 'commit' })
  t.same((await set.pool.query(query)).rows, [{ s: '30s', r: '1.1' }])
  const { optimizer: transaction } = await optimizer(t, url, { preset: 'railway', delivery: 'transaction' })
  t.same((await transaction.pool.query(query)).rows, [{ s: '0', r: '4' }])
  t.same(await transaction.transact(async client => (await client.query(query)).rows), [{ s: '30s', r: '1.1' }])
  const { optimizer: role } = await optimizer(t, url, { delivery: 'role' })
  t.same((await role.pool.query(query)).rows, [{ s: '0', r: '4' }])
  t.match(role.explain().advice, /ALTER ROLE "postgres" SET statement_timeout = '30000';/)
  const { optimizer: own } = await optimizer(t, `${url}?options=-c%20random_page_cost%3D2`)
  t.same((await own.pool.query(query)).rows, [{ s: '30s', r: '2' }])
})

t.test('discard forgets what the last user left, and keeps the settings', async t => {
  const { url } = await testDatabase(t)
  const { optimizer: discard } = await optimizer(t, url, { preset: 'railway', resetOnReturn: 'discard', size: 1, overflow: 0 })
  const client = await discard.pool.connect()
  await client.query("SET statement_timeout = 1234; SET work_mem = '1MB'")
  await client.query({ name: 'named', text: 'SELECT 1' })
  await client.query('BEGIN')
  client.release()
  t.same((await discard.pool.query(query)).rows, [{ s: '30s', r: '1.1' }])
  t.ok(await discard.pool.query({ name: 'named', text: 'SELECT 1' }))
})

t.test('commit keeps what a connection comes back with', async t => {
  const { url } = await testDatabase(t)
  const { optimizer: commit } = await optimizer(t, url, { resetOnReturn: 'commit', size: 1, overflow: 0 })
  const client = await commit.pool.connect()
  await client.query('BEGIN; CREATE TABLE kept (id int)')
  client.release()
  t.ok(await commit.pool.query('SELECT * FROM kept'))
})

t.test('SQL is echoed without values, a lent connection is traced, onConnect may refuse', async t => {
  const { url } = await testDatabase(t)
  const { optimizer: echo, messages } = await optimizer(t, url, { echoSql: true, leakTraceAfterMs: 30 })
  await echo.pool.query('SELECT $1::text', ['private'])
  const client = await echo.pool.connect()
  await until('it is traced', () => messages.some(message => message.includes('lent for more than')))
  client.release()
  t.match(messages.join('\n'), /SELECT \$1::text/)
  t.match(messages.join('\n'), /lent for more than 30 ms.*settings\.test/)
  t.notMatch(messages.join('\n'), 'private')
  const { optimizer: refusing } = await optimizer(t, url, { minConnections: 0, tries: 1, onConnect: async () => { throw new Error('not this one') } })
  await t.rejects(refusing.pool.query('SELECT 1'), { message: 'not this one' })
})

t.test('statements of every shape', async t => {
  const { url } = await testDatabase(t)
  const { optimizer: it } = await optimizer(t, url, { size: 1, overflow: 0 })
  const { pool } = it
  await t.rejects(pool.query(null as unknown as string), TypeError)
  await t.rejects(pool.query('SELECT 1', 'no list' as unknown as unknown[]), { message: 'Query values must be an array' })
  await t.rejects(pool.query({ text: 'SELECT $1', values: 'no list' as unknown as unknown[] }), { message: 'Query values must be an array' })
  const failed = await new Promise<Error | null>(resolve => { pool.query('nonsense', undefined, error => { resolve(error) }) })
  t.match(failed, { code: '42601' })
  const rows: unknown[] = []
  const streamed = pool.query(new pg.Query('SELECT generate_series(1, 3) AS n'))
  streamed.on('row', row => { rows.push(row['n']) })
  await new Promise<void>(resolve => { streamed.on('end', () => { resolve() }) })
  t.same(rows, [1, 2, 3])
  const broken = pool.query(new pg.Query('nonsense'))
  t.match(await new Promise(resolve => { broken.on('error', resolve) }), { code: '42601' })
  const controller = new AbortController()
  await t.rejects(pool.query({ text: 'SELECT pg_sleep(1)', deadline: { atMs: performance.now() + 50, signal: controller.signal } }), { message: 'Query read timeout' })
  t.same((await pool.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  t.match(pool, { expiredCount: 0, lastOpenError: null })
  await it.close()
  await t.rejects(pool.connect(), { code: 'ORI_POOL_CLOSED' })
  await new Promise<void>(resolve => { pool.end(() => { resolve() }) })
  t.equal(pool.ended, true)
  const refused = await new Promise(resolve => { pool.connect(error => { resolve(error) }) })
  t.match(refused, { code: 'ORI_POOL_CLOSED' })
  const unsent = pool.query(new pg.Query('SELECT 1'))
  t.match(await new Promise(resolve => { unsent.on('error', resolve) }), { code: 'ORI_POOL_CLOSED' })
})

t.test('a transaction pooler is detected, told once, and gets SET LOCAL', { skip: withoutPgBouncer }, async t => {
  const { url } = await testDatabase(t)
  const ignoring = { ignore_startup_parameters: 'extra_float_digits, statement_timeout, lock_timeout, idle_in_transaction_session_timeout, options' }
  for (const settings of [{}, ignoring]) {
    const { optimizer: pooled, messages } = await optimizer(t, await startPgBouncer(t, url, settings), { preset: 'railway' })
    t.match(pooled.explain(), { pooler: true, advice: /ALTER ROLE "postgres"/ })
    t.equal(messages.filter(message => message.includes('pooler')).length, 1, messages.join('\n'))
    t.match(pooled.pool.stats(), { openFailures: 0, lost: 0, retries: 0 }, 'and nobody notices')
    t.same(await pooled.transact(async client => (await client.query(query)).rows), [{ s: '30s', r: '1.1' }])
    t.same((await pooled.pool.query(query)).rows, [{ s: '0', r: '4' }], 'nothing leaks to the next client')
  }
})
