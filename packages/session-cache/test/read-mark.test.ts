import { createIdentity, readMarkSql, serverMarkSql, sessionKey, startDeadline, systemClock, type LoadRequest, type PoolLike, type StatementConfig, type UserRecord, type UserSource } from '@orientor/session-contract/core'
import { testDatabase } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { DatabaseSessionManager, resolveOptions } from '../src/core.js'
import { tableSource, type TableSourceOptions } from '../src/postgres.js'
import { ModelTrust } from './fixtures/model-trust.js'
import { identityOf, issuer, keyOf, route } from './fixtures/setup.js'

const usersSql = 'CREATE TABLE users (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, sub text NOT NULL UNIQUE, iss text, email text, active boolean, gone date, rev bigint NOT NULL DEFAULT 1)'
const options: TableSourceOptions = { table: 'users', subject: 'sub', issuer: { always: issuer }, columns: { userId: 'id', email: 'email', isActive: 'active', deletedAt: 'gone', revision: 'rev' } }

function poolOn (t: Test, url: string, parts: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, max: 1, ...parts })
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  return pool
}

async function database (t: Test, more: string = ''): Promise<{ url: string, pool: pg.Pool }> {
  const { url } = await testDatabase(t)
  const pool = poolOn(t, url)
  await pool.query(`${usersSql}; ${more}`)
  return { url, pool }
}

const add = (table: string, email: string): string => `INSERT INTO ${table} (sub, iss, email) VALUES ('ada', '${issuer}', '${email}')`
const request = (subject: string, from: string = issuer): LoadRequest => ({ key: sessionKey(from, subject), issuer: from, subject, identity: createIdentity({ issuer: from, subject }) })

async function load (source: UserSource, ...requests: LoadRequest[]): Promise<UserRecord[]> {
  const deadline = startDeadline(systemClock, 5000)
  try {
    return await Promise.all(source.load(requests, deadline))
  } finally {
    deadline.release()
  }
}

async function markOf (pool: pg.Pool | pg.PoolClient, sql: string = readMarkSql('"users"')): Promise<string> {
  return (await pool.query(`SELECT ${sql} AS mark`)).rows[0].mark
}

t.test('every record of a table tells where it was read, also that there is no user, in one statement', async t => {
  const { pool } = await database(t, `INSERT INTO users (sub, iss, active, gone) VALUES ('ada', '${issuer}', true, NULL), ('bob', '${issuer}', false, NULL), ('cid', '${issuer}', true, now())`)
  const sent: StatementConfig[] = []
  const counted: PoolLike = { query: statement => { sent.push(statement); return (pool as PoolLike).query(statement) }, connect: () => (pool as PoolLike).connect() }
  const readMark = await markOf(pool)
  t.match(readMark, /^f read-committed \d+\.\d+ \d+ \d+$/)
  t.equal(readMark, `${await markOf(pool, serverMarkSql)} ${await markOf(pool, "'users'::regclass::oid::text")}`, 'the server part and the relation, as a bus puts them together')
  t.equal(await markOf(pool, "split_part($1, ' ', 4) = (SELECT oid::text FROM pg_database WHERE datname = current_database())".replace('$1', `'${readMark}'`)), true)
  for (const issuerOption of [{ always: issuer }, 'iss']) {
    const source = tableSource({ ...options, issuer: issuerOption, pool: counted })
    await source.ready!()
    sent.length = 0
    const records = await load(source, ...['ada', 'bob', 'cid', 'dan'].map(subject => request(subject)))
    t.strictSame(records.map(({ kind, readMark }) => [kind, readMark]), ['active', 'inactive', 'deleted', 'unknown'].map(kind => [kind, readMark]))
    t.strictSame(await load(source, request('eve')), [{ kind: 'unknown', revision: 0, readMark }])
    t.equal(sent.length, 2)
    t.strictSame(await load(source, request('null')), [{ kind: 'unknown', revision: 0, readMark }], 'the row without a user is nobody\'s')
  }
  t.strictSame(await load(tableSource({ ...options, pool }), request('ada', 'https://other.test')), [{ kind: 'unknown', revision: 0 }], 'nothing was read')
})

t.test('the mark is computed once for a statement, whatever it reads', async t => {
  const { pool } = await database(t, "INSERT INTO users (sub, iss) SELECT 'user_' || n, 'x' FROM generate_series(1, 5000) AS n; ANALYZE users")
  for (const issuerOption of [{ always: issuer }, 'iss']) {
    let asked: StatementConfig | null = null
    const source = tableSource({ ...options, issuer: issuerOption, pool: { query: statement => { asked = statement; return (pool as PoolLike).query(statement) }, connect: () => (pool as PoolLike).connect() } })
    await load(source, request('user_1'))
    const values = [Array.from({ length: 500 }, (_, n) => `user_${n + 1}`), Array.from({ length: 500 }, () => 'x')].slice(0, asked!.values!.length)
    const { rows } = await pool.query({ text: `EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) ${asked!.text}`, values })
    interface Node { readonly Output?: readonly string[], readonly 'Actual Loops': number, readonly 'Actual Rows': number, readonly Plans?: readonly Node[] }
    const every = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(every)]
    const nodes = every(rows[0]['QUERY PLAN'][0].Plan)
    t.equal(nodes[0]!['Actual Rows'], 500)
    // A node that only passes a value on shows it in parentheses.
    t.strictSame(nodes.filter(({ Output }) => Output?.some(column => column.startsWith('concat_ws('))).map(node => node['Actual Loops'] * node['Actual Rows']), [1])
  }
})

t.test('a name that a load prepared is resolved as its mark is, when the search path changes and when the table is another', async t => {
  const { pool } = await database(t, `${add('users', 'public')}; CREATE SCHEMA other; CREATE TABLE other.users (LIKE users INCLUDING ALL); ${add('other.users', 'other')}`)
  const source = tableSource({ ...options, pool })
  const told = async (): Promise<[string, string]> => {
    // Often, so that the plan is a generic one.
    for (let time = 0; time < 7; time++) await load(source, request('ada'))
    const [record] = await load(source, request('ada'))
    return [record!.kind === 'active' ? record!.user.email! : record!.kind, record!.readMark!.split(' ').at(-1)!]
  }
  const oidOf = async (table: string): Promise<string> => String(await markOf(pool, `'${table}'::regclass::oid::text`))
  t.strictSame(await told(), ['public', await oidOf('public.users')])
  await pool.query('SET search_path = other, public')
  t.strictSame(await told(), ['other', await oidOf('other.users')])
  await pool.query('DROP TABLE other.users')
  t.strictSame(await told(), ['public', await oidOf('public.users')])
  await pool.query(`ALTER TABLE users RENAME TO users_before; CREATE TABLE public.users (LIKE users_before INCLUDING ALL); ${add('public.users', 'anew')}`)
  t.strictSame(await told(), ['anew', await oidOf('public.users')])
  await pool.query(`DROP TABLE users; CREATE TABLE public.users (LIKE users_before INCLUDING ALL); ${add('public.users', 'anew again')}`)
  t.strictSame(await told(), ['anew again', await oidOf('public.users')])
})

t.test('a mark says the same by whatever path and settings it is computed, and other things in a transaction that is left over', async t => {
  const { pool } = await database(t, `CREATE SCHEMA evil; CREATE FUNCTION evil.concat_ws(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_concat_ws';
    CREATE FUNCTION evil.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true';
    CREATE FUNCTION mark_of_a_bus() RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN ${serverMarkSql}; END $$`)
  const client = await pool.connect()
  const mark = await markOf(client)
  t.equal(await markOf(client), mark)
  await client.query("SET search_path = evil, pg_catalog, public; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET extra_float_digits = -15; SET bytea_output = 'escape'")
  t.equal(await markOf(client), mark)
  t.equal(`${await markOf(client, 'mark_of_a_bus()')} ${mark.split(' ').at(-1)!}`, mark)
  await client.query('BEGIN')
  t.equal(await markOf(client), mark, 'a transaction that has not written reads as a statement alone does')
  await client.query('CREATE TEMP TABLE written (n int)')
  t.equal(await markOf(client), mark.replace(/ (\d+)$/, ' writing $1'))
  await client.query('ROLLBACK')
  for (const level of ['repeatable read', 'serializable']) {
    await client.query(`BEGIN ISOLATION LEVEL ${level}`)
    t.equal(await markOf(client), mark.replace('read-committed', level.replace(' ', '-')))
    await client.query('ROLLBACK')
  }
  client.release()
})

/** Leaves a transaction open on the one connection of a pool, as an app does that forgets to end it. */
async function leftOver (pool: pg.Pool, ...statements: string[]): Promise<void> {
  const client = await pool.connect()
  for (const statement of statements) await client.query(statement)
  client.release()
}

/** A place that a load may read from, other than the one that is watched. */
const elsewhere: Readonly<Record<string, (t: Test, url: string) => Promise<pg.Pool>>> = {
  'another schema that comes first on the search path': async (t, url) => {
    const pool = poolOn(t, url, { options: '-c search_path=tenant,public' })
    await pool.query(`CREATE SCHEMA tenant; CREATE TABLE tenant.users (LIKE public.users INCLUDING ALL); ${add('tenant.users', 'elsewhere')}`)
    return pool
  },
  'another database on the server, copied from this one': async (t, url) => {
    const name = `${new URL(url).pathname.slice(1)}_copy`
    const pool = poolOn(t, url.replace(/\/[^/]*$/, `/${name}`))
    const server = poolOn(t, url.replace(/\/[^/]*$/, '/postgres'))
    await server.query(`CREATE DATABASE ${name} TEMPLATE ${new URL(url).pathname.slice(1)}`)
    t.teardown(async () => { await server.query(`DROP DATABASE ${name} WITH (FORCE)`) })
    await pool.query("UPDATE users SET email = 'elsewhere'")
    return pool
  },
  'a transaction of a fixed snapshot that was left over': async (t, url) => {
    const pool = poolOn(t, url)
    await leftOver(pool, 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT FROM users')
    return pool
  },
  'a transaction that has written and was left over': async (t, url) => {
    const pool = poolOn(t, url)
    await leftOver(pool, 'BEGIN', "UPDATE users SET email = 'elsewhere'")
    return pool
  }
}

for (const [place, connect] of Object.entries(elsewhere)) {
  t.test(`what was read in ${place} is answered and not stored, and leaves what is there`, async t => {
    const { url, pool } = await database(t, add('users', 'here'))
    const marks = new Set([await markOf(pool)])
    // Nothing may be connected to a database that is copied.
    await pool.end()
    pool.end = async () => {}
    const far = await connect(t, url)
    const near = poolOn(t, url)
    let current: PoolLike = far as PoolLike
    const source = tableSource({ ...options, pool: { query: statement => current.query(statement), connect: () => current.connect() } })
    const trust = new ModelTrust(5000)
    trust.marks = marks
    const manager = new DatabaseSessionManager(resolveOptions({ source, refreshAfterMs: 60_000, expireAfterMs: 120_000 }), { trust })
    const stats = (): object => manager.cache.stats()
    const answered = await manager.resolve(identityOf('ada'), route)
    t.match(answered, { kind: 'user', from: 'source', stale: false })
    t.notMatch(answered, { user: { readMark: /./ } })
    t.match(await manager.resolve(identityOf('nobody'), route), { kind: 'refused' })
    t.match(stats(), { entries: 0, negativeEntries: 0, stored: 0, loadsElsewhere: 2, loadsOvertaken: 0, loadFailures: 0 })
    current = near as PoolLike
    t.match(await manager.resolve(identityOf('ada'), route), { from: 'source', user: { email: 'here' } })
    await manager.resolve(identityOf('nobody'), route)
    t.match(stats(), { entries: 1, negativeEntries: 1, loadsElsewhere: 2 })
    current = far as PoolLike
    await manager.cache.refresh(keyOf('ada'))
    await manager.cache.refresh(keyOf('nobody'))
    t.match(manager.resolve(identityOf('ada'), route), { from: 'cache', user: { email: 'here' } })
    t.match(stats(), { entries: 1, negativeEntries: 1, stored: 1, replaced: 0, loadsElsewhere: 4 })
    // A bus that does not compare marks: as it was.
    trust.marks = null
    await manager.cache.refresh(keyOf('ada'))
    t.match(stats(), { stored: 1, replaced: 1, loadsElsewhere: 4 })
    manager.gate.stop()
    await far.query('ROLLBACK').catch(() => {})
  })
}

t.test('a text that the database cannot hold tells of no place, so that it is not stored where marks are compared', async t => {
  const { url } = await testDatabase(t)
  const name = `${new URL(url).pathname.slice(1)}_latin`
  const server = poolOn(t, url)
  await server.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
  t.teardown(async () => { await server.query(`DROP DATABASE ${name} WITH (FORCE)`) })
  const pool = poolOn(t, url.replace(/\/[^/]*$/, `/${name}`))
  await pool.query(`${usersSql}; ${add('users', 'here')}`)
  const readMark = await markOf(pool)
  const records = await load(tableSource({ ...options, pool }), request('ada'), request('Łukasz'), request('bob'))
  t.strictSame(records.map(record => [record.kind, record.readMark]), [['active', readMark], ['unknown', ''], ['unknown', readMark]])
})
