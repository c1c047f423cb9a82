import pg from 'pg'
import t, { type Test } from 'tap'
import { PostgresFaults, postgresFaults, startTestServer, testDatabase, testServer, until, type PostgresServer } from '../src/index.js'

async function setup (t: Test, server?: PostgresServer): Promise<{ faults: PostgresFaults, url: string, dial: (url?: string, config?: pg.ClientConfig) => Promise<pg.Client> }> {
  const database = server === undefined ? await testDatabase(t) : { server, url: await server.createDatabase() }
  const faults = postgresFaults(t, database)
  const clients: pg.Client[] = []
  t.teardown(() => Promise.all(clients.map(client => client.end().catch(() => {}))))
  const dial = async (url: string = database.url, config: pg.ClientConfig = {}): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: url, ...config })
    client.on('error', () => {})
    await client.connect()
    clients.push(client)
    return client
  }
  return { faults, url: database.url, dial }
}

/** For what is not answered. */
const impatienceMs = 400
const unanswered = { text: 'SELECT 1', query_timeout: impatienceMs } as pg.QueryConfig

const gone = (client: pg.Client): Promise<void> => new Promise(resolve => { client.once('end', () => { resolve() }) })
const pidOf = async (client: pg.Client): Promise<number> => (await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid

t.test('sessions are listed and terminated, one, by name, all, or all again and again; those of the faults never', async t => {
  const { faults, url, dial } = await setup(t)
  const [one, named, third] = [await dial(), await dial(url, { application_name: 'listener' }), await dial()]
  t.match(await faults.backends(), [{ state: 'idle' }, { applicationName: 'listener' }, {}])
  const { rows: [own] } = await faults.sql('SELECT pg_backend_pid() AS pid')
  const ends = [gone(one!), gone(named!), gone(third!)]
  t.equal(await faults.terminate({ pid: await pidOf(one!) }), 1)
  t.equal(await faults.terminate({ applicationName: 'listener' }), 1)
  await Promise.all(ends.slice(0, 2))
  t.ok(await third!.query('SELECT 1'))
  t.equal(await faults.terminate(), 1)
  await ends[2]
  const again = faults.terminateEvery(20)
  for (let round = 0; round < 2; round++) await gone(await dial())
  await again.heal()
  t.ok(await again.struck() >= 2)
  const survivor = await dial()
  await new Promise(resolve => { setTimeout(resolve, 60) })
  t.ok(await survivor.query('SELECT 1'), 'healed')
  t.same((await faults.sql('SELECT pg_backend_pid() AS pid')).rows, [own])
})

t.test('a killed session ends all others, and the server recovers', async t => {
  const { faults, dial } = await setup(t)
  const [victim, other] = [await dial(), await dial()]
  const ends = [gone(victim), gone(other)]
  faults.killBackend(await pidOf(victim))
  await Promise.all(ends)
  t.ok(await faults.ready() > 0)
  t.ok(await (await dial()).query('SELECT 1'))
})

t.test('a killed cluster leaves no process and starts again with its data; a restart does in every mode', async t => {
  const { faults, url, dial } = await setup(t)
  await faults.sql('CREATE TABLE kept AS SELECT 42 AS answer')
  const end = gone(await dial())
  const fault = await faults.killCluster()
  await end
  await t.rejects(dial(), { code: 'ECONNREFUSED' })
  t.throws(() => { faults.freeze('cluster') }, /does not run/)
  await fault.heal()
  await fault.heal()
  t.same((await (await dial()).query('SELECT answer FROM kept')).rows, [{ answer: 42 }])
  for (const mode of ['fast', 'immediate'] as const) {
    const client = await dial(url)
    const end = gone(client)
    await faults.restart(mode)
    await end
    t.ok(await faults.ready() > 0, mode)
  }
  await faults.close()
  await faults.restart('smart')
  t.same((await faults.sql('SELECT answer FROM kept')).rows, [{ answer: 42 }])
})

t.test('one session, the postmaster alone, or the whole cluster is frozen and thawed', async t => {
  const { faults, dial } = await setup(t)
  const [one, other] = [await dial(), await dial()]
  const single = faults.freeze(await pidOf(one))
  await t.rejects(one.query(unanswered), { message: 'Query read timeout' })
  t.ok(await other.query('SELECT 1'))
  await single.heal()

  const postmaster = faults.freeze('postmaster')
  t.ok(await other.query('SELECT 1'), 'sessions go on')
  await t.rejects(dial(undefined, { connectionTimeoutMillis: impatienceMs }), { message: /timeout/ })
  await postmaster.heal()
  t.ok(await dial())

  const cluster = faults.freeze('cluster')
  await t.rejects(other.query(unanswered), { message: 'Query read timeout' })
  await t.rejects(dial(undefined, { connectionTimeoutMillis: impatienceMs }), { message: /timeout/ })
  await cluster.heal()
  await faults.ready()
  t.ok(await (await dial()).query('SELECT 1'))
})

t.test('a frozen server can be stopped', async t => {
  const server = await startTestServer()
  const url = await server.createDatabase()
  const faults = new PostgresFaults({ server, url })
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  faults.freeze('cluster')
  const sinceMs = performance.now()
  await server.stop()
  t.ok(performance.now() - sinceMs < 8000, 'before it is killed for not ending')
})

t.test('a role has as many sessions as it is let, and a server as many as are left', async t => {
  const server = await testServer(t, { max_connections: '12' })
  const { faults, dial } = await setup(t, server)
  const url = await faults.createRole(1)
  const first = await dial(url)
  t.ok(await first.query('CREATE TABLE mine (id int)'))
  await t.rejects(dial(url), { code: '53300' })
  await faults.limitRole(url, 5)
  t.ok(await dial(url))
  const hog = await faults.hogConnections({ leaving: 1 })
  t.ok(await dial(url))
  await t.rejects(dial(url), { code: '53300' })
  t.ok(await faults.sql('SELECT 1'))
  await hog.heal()
  await until('there is room again', () => dial(url).then(() => true, () => false))
})

t.test('the cluster is read-only at once, a database for new sessions', async t => {
  const { faults, dial } = await setup(t)
  await faults.sql('CREATE TABLE written (id int)')
  const write = (client: pg.Client): Promise<unknown> => client.query('INSERT INTO written VALUES (1)')
  const old = await dial()
  const database = await faults.readOnly('database')
  t.ok(await write(old))
  await t.rejects(write(await dial()), { code: '25006' })
  await database.heal()
  t.ok(await write(await dial()))

  const cluster = await faults.readOnly('cluster')
  await until('an open session hears of it', () => write(old).then(() => false, (error: Error & { code: string }) => error.code === '25006'))
  await t.rejects(write(await dial()), { code: '25006' })
  await cluster.heal()
  t.ok(await write(await dial()))
  await until('an open session hears of it', () => write(old).then(() => true, () => false))
})

t.test('writes fail with the error and at the rate that is asked for, or take longer, and are counted', async t => {
  const { faults, dial } = await setup(t)
  await faults.sql('CREATE TABLE written (id int)')
  const client = await dial()
  const full = await faults.troubleWrites('written', { sqlState: '53100' })
  await t.rejects(client.query('INSERT INTO written VALUES (1)'), { code: '53100' })
  await t.rejects(client.query('TRUNCATE written'), { code: '53100' })
  t.equal(await full.struck(), 2)
  await full.heal()
  const some = await faults.troubleWrites('written', { sqlState: '40001', rate: 0.3 })
  let failed = 0
  for (let round = 0; round < 100; round++) await client.query('DELETE FROM written').catch(() => { failed++ })
  t.ok(failed > 5 && failed < 70, `${failed} of 100`)
  t.equal(await some.struck(), failed)
  await some.heal()
  const slow = await faults.troubleWrites('written', { delayMs: 60 })
  t.equal(await slow.struck(), 0)
  const sinceMs = performance.now()
  await client.query('INSERT INTO written VALUES (2)')
  t.ok(performance.now() - sinceMs >= 55)
  await slow.heal()
  t.same((await client.query('SELECT * FROM written')).rows, [{ id: 2 }])
  await t.rejects(faults.troubleWrites('written', { sqlState: 'no state' }), TypeError)
  await t.rejects(faults.troubleWrites('written', { rate: 2 }), RangeError)
})

t.test('tables and rows are locked, and everything is healed when its test ends', async t => {
  const { url, dial } = await setup(t)
  let faults: PostgresFaults | null = null
  await t.test('inside', async t => {
    const { server } = await testDatabase(t)
    faults = postgresFaults(t, { server, url })
    await faults.sql('CREATE TABLE locked AS SELECT generate_series(1, 2) AS id')
    const client = await dial(undefined, { lock_timeout: 50 })
    const rows = await faults.lockRows('locked', 'id = 1')
    await t.rejects(client.query('UPDATE locked SET id = 1 WHERE id = 1'), { code: '55P03' })
    t.ok(await client.query('UPDATE locked SET id = 2 WHERE id = 2'))
    await rows.heal()
    await faults.lockTable('locked', 'EXCLUSIVE')
    t.ok(await client.query('SELECT * FROM locked'))
    await faults.healAll()
    await faults.lockTable('locked')
    await t.rejects(client.query('SELECT * FROM locked'), { code: '55P03' })
  })
  t.equal((await (await dial()).query('SELECT * FROM locked')).rowCount, 2)
})
