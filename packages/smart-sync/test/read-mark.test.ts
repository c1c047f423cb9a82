import { readMarkSql, SourceUnavailable, type PoolLike, type StatementConfig, type UserRecord } from '@orientor/session-contract/core'
import { testDatabase } from '@orientor/test-kit'
import pg from 'pg'
import t from 'tap'
import { migrate } from '../src/index.js'
import { defaultTableNames } from '../src/table-names.js'
import {
  deadlineIn, issuer, one, poolOn, pools, profile, providerOf, request, storeOn, syncOn, watched
} from './fixtures/on-postgres.js'

const base = 1_700_000_000_000

async function markOf (pool: pg.Pool, sql: string = readMarkSql('"users"')): Promise<string> {
  return (await pool.query(`SELECT ${sql} AS mark`)).rows[0].mark
}

/** Leaves a transaction open on the one connection of a pool, as an app does that forgets to end it. */
async function leftOver (pool: pg.Pool, ...statements: string[]): Promise<void> {
  const client = await pool.connect()
  for (const statement of statements) await client.query(statement)
  client.release()
}

t.test('every record tells where it was read last, without a statement more', async t => {
  const { pool, counted } = await pools(t)
  await migrate({ pool })
  const readMark = await markOf(pool)
  const answers = new Map<string, number | 'unknown' | 'failed'>()
  const provider = providerOf(subject => {
    const answer = answers.get(subject)
    if (answer === undefined || answer === 'unknown') return { kind: 'unknown' }
    return answer === 'failed' ? { kind: 'failed', error: new Error('away') } : { kind: 'found', profile: { ...profile, email: `${subject}@example.com` }, version: answer }
  })
  const sync = syncOn(counted, { store: storeOn(counted), provider, forceSyncAfterMs: 0 })
  const ask = async (subject: string): Promise<UserRecord> => await one(sync, request(subject), deadlineIn(t, 5000))
  answers.set('user_a', base)
  counted.statements.length = 0
  t.match(await ask('user_a'), { kind: 'active', sync: 'performed', readMark }, 'written anew')
  t.equal(counted.statements.length, 3, 'to read, to lock, and to write')
  answers.set('user_a', base + 1000)
  t.match(await ask('user_a'), { sync: 'performed', readMark }, 'written again')
  t.match(await ask('user_a'), { sync: 'skipped', readMark }, 'in step, and noted')
  answers.set('user_a', 'failed')
  t.match(await ask('user_a'), { sync: 'failed', readMark }, 'while the provider is away')
  answers.set('user_a', 'unknown')
  t.match(await ask('user_a'), { kind: 'unknown', revision: 2, readMark }, 'not known to the provider any more')
  t.strictSame(await ask('user_none'), { kind: 'unknown', revision: 0, readMark }, 'nowhere')
  await pool.query("UPDATE users SET is_active = false WHERE clerk_user_id = 'user_a'")
  answers.set('user_a', base + 1000)
  t.match(await ask('user_a'), { kind: 'inactive', readMark })
  await pool.query("UPDATE users SET deleted_at = now() WHERE clerk_user_id = 'user_a'")
  t.strictSame(await ask('user_a'), { kind: 'deleted', revision: 4, readMark }, 'with a row')
  await pool.query("INSERT INTO user_tombstones (issuer, clerk_user_id) VALUES ($1, 'user_b')", [issuer])
  answers.set('user_b', base)
  t.strictSame(await ask('user_b'), { kind: 'deleted', revision: 0, readMark }, 'without one')
})

t.test('what is read in a transaction that is left over says so; nothing is written in one', async t => {
  const { pool, url } = await pools(t)
  await migrate({ pool })
  const readMark = await markOf(pool)
  const writing = readMark.replace(/ (\d+)$/, ' writing $1')
  const fixed = readMark.replace('read-committed', 'repeatable-read')
  await pool.query("INSERT INTO users (issuer, clerk_user_id) VALUES ($1, 'user_old')", [issuer])
  await pool.query('CREATE TABLE notes (n int)')
  const leftOvers = [
    ['BEGIN', readMark], ['BEGIN; INSERT INTO notes VALUES (1)', writing], ['BEGIN ISOLATION LEVEL REPEATABLE READ', fixed]
  ] as const
  let version = base
  for (const createUsers of [true, false]) {
    for (const [begin, mark] of leftOvers) {
      const single = poolOn(t, url, 1)
      const store = storeOn(single, undefined, { createUsers })
      const ask = async (subject: string, claims: Record<string, unknown> = {}): Promise<UserRecord> => {
        return await one(syncOn(single, { store }), request(subject, claims), deadlineIn(t, 5000))
      }
      for (const subject of ['user_old', ...createUsers ? [`user_${version}`] : []]) {
        version += 1000
        await leftOver(single, begin)
        t.match(await ask('user_old'), { kind: 'active', readMark: mark }, `${begin}: read`)
        t.match(await ask(subject, { updated_at: version }), { sync: 'performed', readMark }, `${begin}: written on another connection`)
        const stored = 'SELECT FROM users WHERE clerk_user_id = $1 AND clerk_updated_at = $2'
        t.equal((await pool.query(stored, [subject, new Date(version)])).rowCount, 1, 'and committed')
      }
    }
  }
  t.equal((await pool.query('SELECT FROM notes')).rowCount, 0, 'what the app left open is rolled back')
})

t.test('a record is marked by the statement that its data comes from, not by those beside it', async t => {
  const { pool, url } = await pools(t)
  await migrate({ pool })
  const here = await markOf(pool)
  await pool.query('CREATE SCHEMA tenant; CREATE TABLE tenant.users (LIKE public.users INCLUDING ALL)')
  const far = new pg.Pool({ connectionString: url, max: 2, options: '-c search_path=tenant,public' })
  t.teardown(async () => { await far.end() })
  const elsewhere = await markOf(far)
  t.not(elsewhere, here)
  t.equal(elsewhere.replace(/\d+$/, ''), here.replace(/\d+$/, ''), 'the relation differs, and nothing else')
  /** Sends finds to one pool and transactions to another, as a pooler that balances reads does. */
  const divided = (finds: pg.Pool, writes: pg.Pool): PoolLike => ({
    query: async (statement: StatementConfig) => await (finds as PoolLike).query(statement),
    connect: async () => await (writes as PoolLike).connect()
  })
  const ask = async (pool: PoolLike, version: number): Promise<UserRecord> => await one(syncOn(pool), request('user_a', { email: 'a@example.com', updated_at: version }), deadlineIn(t, 5000))
  t.match(await ask(divided(far, pool), base), { sync: 'performed', readMark: here }, 'found nowhere, written here')
  t.match(await ask(divided(pool, far), base), { sync: 'skipped', readMark: here }, 'found here')
  await pool.query('INSERT INTO tenant.users SELECT * FROM public.users')
  t.match(await ask(divided(pool, far), base + 1000), { sync: 'performed', readMark: elsewhere }, 'written elsewhere')
  const away = syncOn(pool, { store: Object.assign(storeOn(pool), { write: async () => { throw new SourceUnavailable('away') } }) })
  t.match(await one(away, request('user_a', { updated_at: base + 2000 }), deadlineIn(t, 5000)), { sync: 'failed', readMark: here }, 'found here, and could not be written')
})

t.test('the mark is computed once for a statement, whatever it reads or writes', async t => {
  for (const table of [{}, { createUsers: false }]) {
    const { pool } = await pools(t)
    await migrate({ pool })
    const asked = new Map<string, StatementConfig>()
    const seen = watched(pool, statement => { asked.set(/^smart_sync_(find|upsert|update|facts)_[0-9a-f]+$/.exec(statement.name ?? '')?.[1] ?? '', statement) })
    await pool.query("INSERT INTO users (issuer, clerk_user_id) SELECT $1, 'user_' || n FROM generate_series(1, 500) AS n", [issuer])
    const sync = syncOn(seen, { store: storeOn(seen, undefined, table) })
    const fresh = Array.from({ length: 150 }, (_, n) => request(`new_${n}`))
    if (!('createUsers' in table)) await Promise.all(sync.load(fresh, deadlineIn(t, 5000)))
    const batch = Array.from({ length: 150 }, (_, n) => request(`user_${n + 1}`, { given_name: 'Ada', updated_at: base }))
    await Promise.all(sync.load(batch, deadlineIn(t, 5000)))
    interface Node { readonly Output?: readonly string[], readonly 'Actual Loops': number, readonly 'Actual Rows': number, readonly Plans?: readonly Node[] }
    const every = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(every)]
    await pool.query('UPDATE users SET clerk_updated_at = NULL')
    await pool.query("DELETE FROM users WHERE clerk_user_id LIKE 'new%'")
    for (const which of ['find', 'update', ...'createUsers' in table ? [] : ['upsert']]) {
      const { text, values } = asked.get(which)!
      const { rows } = await pool.query({ text: `EXPLAIN (ANALYZE, VERBOSE, FORMAT JSON) ${text}`, values: values! })
      const nodes = every(rows[0]['QUERY PLAN'][0].Plan)
      t.equal(nodes[0]!['Actual Rows'], 150, which)
      t.strictSame(nodes.filter(({ Output }) => Output?.some(column => column.startsWith('concat_ws('))).map(node => node['Actual Loops'] * node['Actual Rows']), [1], which)
    }
  }
})

t.test('tables may be called as the parts of the statements are', async t => {
  for (const createUsers of [true, false]) {
    for (const users of ['m', 'u', 'k', 'o', 'n']) {
      const { pool } = await pools(t)
      const tables = { ...defaultTableNames, users }
      await migrate({ pool, tables })
      await pool.query(`INSERT INTO ${users} (issuer, clerk_user_id) VALUES ($1, 'user_a')`, [issuer])
      const readMark = await markOf(pool, readMarkSql(`"${users}"`))
      const sync = syncOn(pool, { store: storeOn(pool, tables, { createUsers }) })
      t.match(await one(sync, request('user_a', { email: 'a@example.com', updated_at: base }), deadlineIn(t, 5000)), { sync: 'performed', readMark }, users)
      t.match(await one(sync, request('user_a', { email: 'a@example.com', updated_at: base }), deadlineIn(t, 5000)), { sync: 'skipped', readMark }, users)
    }
  }
})

t.test('a key that the database cannot hold is told of no place', async t => {
  const { url } = await testDatabase(t)
  const name = `${new URL(url).pathname.slice(1)}_latin`
  const server = poolOn(t, url)
  await server.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
  t.teardown(async () => { await server.query(`DROP DATABASE ${name} WITH (FORCE)`) })
  const pool = poolOn(t, url.replace(/\/[^/]*$/, `/${name}`))
  await migrate({ pool })
  const readMark = await markOf(pool)
  const sync = syncOn(pool)
  const records = await Promise.all(sync.load([request('user_a', { email: 'a@example.com' }), request('Łukasz', { email: 'b@example.com' })], deadlineIn(t, 5000)))
  t.match(records, [{ kind: 'active', readMark }, { kind: 'unknown', readMark: '' }])
})
