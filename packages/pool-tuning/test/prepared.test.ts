import pg from 'pg'
import t, { type Test } from 'tap'
import { startPgBouncer, testDatabase, withoutPgBouncer } from '@orientor/test-kit'
import { DatabaseConnectionOptimizer, type PoolTuningOptions, type TunedPool } from '../src/core.js'

interface Bench { readonly pool: TunedPool, readonly optimizer: DatabaseConnectionOptimizer, readonly url: string, readonly sql: (text: string) => Promise<pg.QueryResult> }

/** A pool and, past it, a table of users. */
async function bench (t: Test, options: PoolTuningOptions = {}, through: (url: string) => Promise<string> = async url => url): Promise<Bench> {
  const { url } = await testDatabase(t)
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  const sql = (text: string): Promise<pg.QueryResult> => operator.query(text)
  await sql("CREATE TABLE users (id uuid PRIMARY KEY, email text); INSERT INTO users VALUES ('00000000-0000-4000-8000-000000000001', 'ada@example.com')")
  await sql("CREATE TABLE staff AS SELECT email FROM users; CREATE VIEW people AS SELECT email FROM staff; CREATE SCHEMA other; CREATE TABLE other.users AS SELECT id, 'other@example.com'::varchar(99) AS email FROM users")
  const optimizer = new DatabaseConnectionOptimizer({ connectionString: await through(url), environment: {}, drainMs: 100, size: 4, overflow: 0, ...options })
  t.teardown(async () => {
    await optimizer.close()
    await operator.end()
  })
  return { pool: optimizer.pool, optimizer, url, sql }
}

const byId = { name: 'by-id', text: 'SELECT email FROM users WHERE id = $1', values: ['00000000-0000-4000-8000-000000000001'] }

/** Sends a statement on every connection at once, so that each has prepared it. */
async function everywhere (pool: TunedPool, statement: pg.QueryConfig): Promise<void> {
  const clients = await Promise.all(Array.from({ length: pool.limit }, () => pool.connect()))
  await Promise.all(clients.map(client => client.query(statement)))
  for (const client of clients) client.release()
}

const changes: Readonly<Record<string, { readonly statement?: pg.QueryConfig, readonly change: string }>> = {
  'another type of a column': { change: 'ALTER TABLE users ALTER COLUMN email TYPE varchar(320)' },
  'a column more': { statement: { ...byId, name: 'all', text: 'SELECT * FROM users WHERE id = $1' }, change: 'ALTER TABLE users ADD COLUMN plan text' },
  'a swap of tables': { change: 'BEGIN; ALTER TABLE users RENAME TO old; CREATE TABLE users AS SELECT id, email::varchar(320) AS email FROM old; COMMIT' },
  'a view that is made anew': { statement: { name: 'view', text: 'SELECT email FROM people', values: [] }, change: 'BEGIN; DROP VIEW people; CREATE VIEW people AS SELECT email::varchar(320) AS email FROM staff; COMMIT' },
  'another type of what it is looked for by': { change: 'ALTER TABLE users ALTER COLUMN id TYPE text' },
  'statements that somebody deallocated': { change: 'DEALLOCATE' }
}

const servers: Readonly<Record<string, PoolTuningOptions>> = {
  'on every connection': {},
  'where errors list the parameters': { client: { options: '-c log_parameter_max_length_on_error=-1' } }
}

for (const [[what, { statement = byId, change }], [where, options]] of Object.entries(changes).flatMap(change => Object.entries(servers).map(server => [change, server] as const))) {
  t.test(`a statement that is prepared outlives ${what}, ${where}`, async t => {
    const { pool, sql } = await bench(t, options)
    await everywhere(pool, statement)
    const { resets } = pool.stats()
    if (change === 'DEALLOCATE') await everywhere(pool, { text: 'DEALLOCATE ALL' })
    else await sql(change)
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(Array.from({ length: 4 }, () => pool.query(statement)))
      for (const { rows } of answers) t.match(rows, [{ email: 'ada@example.com' }])
    }
    t.ok(pool.stats().retries >= 1 && pool.stats().retries <= 4, `${pool.stats().retries} sent again`)
    t.ok(pool.stats().resets > resets)
    t.match(pool.stats(), { total: 4, lost: 0, lent: 0 }, 'the connections are kept')
    const before = pool.stats().retries
    for (let round = 0; round < 10; round++) await pool.query(statement)
    t.equal(pool.stats().retries, before, 'prepared anew, for good')
  })
}

t.test('after a change of a table one transaction fails at most, whatever connections prepared its statements', async t => {
  const { optimizer, pool, sql } = await bench(t)
  await everywhere(pool, byId)
  await sql('ALTER TABLE users ALTER COLUMN email TYPE varchar(320)')
  let failed = 0
  for (let round = 0; round < 8; round++) await optimizer.transact(async client => { await client.query(byId) }).catch(() => { failed++ })
  t.equal(failed, 1)
  await everywhere(pool, byId)
  t.match(pool.stats(), { total: 4, lost: 0 })
})

t.test('a search path that somebody left behind does not fail the next statement that was prepared under another', async t => {
  const { pool } = await bench(t, { size: 1 })
  await pool.query(byId)
  const client = await pool.connect()
  await client.query('SET search_path = other')
  client.release()
  t.match((await pool.query(byId)).rows, [{ email: 'other@example.com' }])
})

t.test('what cannot be prepared anew, or fails then as well, fails: a name without its text, a missing column, one try', async t => {
  const { pool, sql } = await bench(t, { size: 1 })
  await pool.query(byId)
  await sql('ALTER TABLE users ALTER COLUMN email TYPE varchar(320)')
  await t.rejects(pool.query({ name: 'by-id', values: byId.values } as unknown as pg.QueryConfig), { code: '0A000' })
  t.ok(await pool.query(byId))
  await sql('ALTER TABLE users DROP COLUMN email')
  await t.rejects(pool.query(byId), { code: '42703' })
  const { pool: once, sql: change } = await bench(t, { size: 1, tries: 1 })
  await once.query(byId)
  await change('ALTER TABLE users ALTER COLUMN email TYPE varchar(320)')
  await t.rejects(once.query(byId), { code: '0A000' })
  t.ok(await once.query(byId), 'its connection forgot the plan all the same')
})

t.test('a bug of the app is told at once, and costs nobody what is prepared', async t => {
  const { pool, sql } = await bench(t)
  await sql("CREATE FUNCTION plan_of (uuid) RETURNS text LANGUAGE sql AS $$ SELECT 'free' $$; CREATE FUNCTION fails () RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN no_such_function(); END'")
  await everywhere(pool, byId)
  const before = pool.stats()
  const bugs: ReadonlyArray<readonly [text: string, code: string, values?: unknown[]]> = [
    ['SELECT id FROM users WHERE id = true', '42883'],
    ['SELECT no_such_function($1)', '42883', [1]],
    ['UPDATE users SET id = 5', '42804'],
    ['SELECT * FROM no_such_table', '42P01'],
    ['SELECT fails()', '42883']
  ]
  for (let round = 0; round < 3; round++) {
    for (const [text, code, values] of bugs) await t.rejects(pool.query({ name: text, text, ...values && { values } }), { code, databaseFailure: undefined })
    await everywhere(pool, byId)
  }
  const after = pool.stats()
  t.strictSame({ retries: after.retries, resets: after.resets }, { retries: before.retries, resets: before.resets })

  const called = { name: 'called', text: 'SELECT plan_of($1) AS plan', values: byId.values }
  await everywhere(pool, called)
  await sql('DROP FUNCTION plan_of')
  for (let round = 0; round < 5; round++) {
    await t.rejects(pool.query(called), { code: '42883' })
    await everywhere(pool, byId)
  }
  t.equal(pool.stats().retries, after.retries + 1, 'one that was prepared is sent again, once')
  t.equal(pool.stats().resets, after.resets + 4, 'and each connection forgets it, once')
})

t.test('the text of a query object of a class is kept', async t => {
  class Sql {
    name = 'by-class'
    values = byId.values
    get text (): string { return byId.text }
  }
  const { pool, sql } = await bench(t, { size: 1 })
  await pool.query(new Sql())
  await sql('ALTER TABLE users ALTER COLUMN email TYPE varchar(320)')
  t.match((await pool.query(new Sql())).rows, [{ email: 'ada@example.com' }])
})

t.test('behind a pooler that gives out another session for each transaction, statements go without names from the first sign of it on', { skip: withoutPgBouncer }, async t => {
  const { pool } = await bench(t, {}, url => startPgBouncer(t, url, { default_pool_size: '3' }))
  for (let round = 0; round < 20; round++) {
    for (const { rows } of await Promise.all(Array.from({ length: 4 }, () => pool.query(byId)))) t.match(rows, [{ email: 'ada@example.com' }])
  }
  t.ok(pool.stats().retries <= 8, `${pool.stats().retries} sent again`)
})
