import { readFileSync } from 'node:fs'
import { ManualClock, postgresMajor } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../src/migrate.js'
import type { UsersTableOptions } from '../src/users-table.js'
import { columnsOf, deadlineIn, issuer, one, poolOn, pools, profile, providerOf, recipe, request, storeOn, syncOn } from './fixtures/on-postgres.js'

/** A table with one user, and the revision after a statement. */
async function oneUser (t: Test, made: string, options: UsersTableOptions = {}): Promise<{ pool: pg.Pool, url: string, after: (sql: string) => Promise<number>, migrated: (options?: UsersTableOptions) => Promise<readonly string[]> }> {
  const { pool, url } = await pools(t, 2)
  if (made !== '') await pool.query(made)
  await migrate({ pool, ...options })
  await pool.query(`INSERT INTO users (issuer, clerk_user_id) VALUES ('${issuer}', 'user_a')`)
  return {
    pool,
    url,
    migrated: more => migrate({ pool, ...options, ...more }),
    after: async sql => {
      await pool.query(sql)
      return Number((await pool.query('SELECT revision FROM users')).rows[0].revision)
    }
  }
}

/** The columns of which an update has to set one to call the trigger; none: any update calls it. */
async function listOf (pool: pg.Pool, table = 'users'): Promise<string[]> {
  const { rows } = await pool.query(`SELECT ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = t.tgrelid AND a.attnum = ANY (t.tgattr::int2[]) ORDER BY 1) AS list
    FROM pg_trigger AS t WHERE t.tgrelid = $1::regclass AND t.tgname = 'zz_users_revision'`, [table])
  return rows[0].list
}

const readByDefault = [
  'clerk_fingerprint', 'clerk_updated_at', 'clerk_user_id', 'deleted_at', 'email', 'first_name', 'id', 'is_active', 'issuer', 'last_name', 'onboarding_completed', 'profile_data',
  'provider_blocked', 'revision', 'revoked_sessions', 'tokens_valid_from'
]

t.test('the revision grows when the image of what a load reads changes, though PostgreSQL takes both for equal, or compares the type not at all', async t => {
  const extra = ['nick', 'doc', 'raw', 'score', 'amount', 'place', 'span', 'bits', 'tags', 'at']
  const { pool, after } = await oneUser(t, `CREATE EXTENSION citext; CREATE TYPE part AS (a int, b json);
    CREATE TABLE users (id bigserial PRIMARY KEY, nick citext, doc jsonb, raw json, score float8, amount numeric, place point, span interval, bits part, tags text[], at timestamptz)`, { extra })
  let revision = 1
  const changes: ReadonlyArray<readonly [string, string, string]> = [
    ['nick', "'A'", "'a'"], ['doc', '\'{"n": 1.0}\'', '\'{"n": 1.00}\''], ['raw', "'[1]'", "'[1 ]'"], ['raw', '\'"\\u0000"\'', '\'"\\u0001"\''], ['raw', "'1e200000'", "'1e200001'"],
    ['score', "'0'", "'-0'"], ['amount', '1.0', '1.00'], ['place', "'(1,2)'", "'(1,2.5)'"], ['span', "'1 day'", "'24 hours'"], ['bits', "'(1,\"[1]\")'", "'(1,\"[ 1]\")'"],
    ['tags', "'{a}'", "'[0:0]={a}'"], ['at', 'NULL', "'infinity'"], ['email', "''", 'NULL'], ['first_name', "'é'", "E'e\\u0301'"], ['profile_data', '\'{"plan": 1}\'', 'NULL'],
    ['is_active', 'false', 'true']
  ]
  for (const [column, before, then] of changes) {
    await pool.query(`UPDATE users SET ${column} = ${before}`)
    revision = await after('SELECT 1')
    t.equal(await after(`UPDATE users SET ${column} = ${then}`), revision + 1, `${column}: ${before} → ${then}`)
    t.equal(await after(`UPDATE users SET ${column} = ${then}`), revision + 1, 'the same again is no change')
  }
})

t.test('no update fails for the trigger, whatever the values', async t => {
  const { pool, url, after, migrated } = await oneUser(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, raw json, seen timestamptz, plan text)')
  for (const raw of ['"\\u0000"', '"\\ud800"', '1e200000']) {
    t.equal(await after(`UPDATE users SET raw = '${raw}'`), 1, `a column of the app's own with ${raw}`)
    t.equal(await after('UPDATE users SET seen = now()'), 1)
  }
  await migrated({ extra: ['raw', 'plan'] })
  t.equal(await after("UPDATE users SET raw = '\"\\ud801\"'"), 2, 'and one that is read')
  for (const [revision, next] of [['9223372036854775807', 1], ['9007199254740991', 1], ['9007199254740990', 9_007_199_254_740_991], ['-9223372036854775808', 1], ['0', 1], ['41', 42]] as const) {
    await pool.query(`ALTER TABLE users DISABLE TRIGGER zz_users_revision; UPDATE users SET revision = ${revision}; ALTER TABLE users ENABLE ALWAYS TRIGGER zz_users_revision`)
    t.equal(await after("UPDATE users SET first_name = coalesce(first_name, '') || 'x'"), next, `after ${revision}`)
  }
  await pool.query('ALTER TABLE users ALTER COLUMN revision DROP NOT NULL; ALTER TABLE users DISABLE TRIGGER zz_users_revision; UPDATE users SET revision = NULL; ALTER TABLE users ENABLE ALWAYS TRIGGER zz_users_revision')
  t.equal(await after("UPDATE users SET first_name = 'y'"), 1, 'after null')

  // What a session has planned for the function does not fit any more, or names what is gone.
  const session = poolOn(t, url, 1)
  const bySession = async (sql: string): Promise<number> => {
    await session.query(sql)
    return await after('SELECT 1')
  }
  for (let time = 0; time < 8; time++) await bySession(`UPDATE users SET plan = '${time}', email = '${time}'`)
  const before = await after('SELECT 1')
  await pool.query(recipe)
  t.equal(await bySession("UPDATE users SET email = 'z'"), before + 1, 'another type')
  await pool.query('ALTER TABLE users RENAME COLUMN plan TO tier')
  t.equal(await bySession("UPDATE users SET tier = 'z'"), before + 2, 'another name')
  await pool.query('ALTER TABLE users DROP COLUMN tier, DROP COLUMN raw')
  t.equal(await bySession('UPDATE users SET seen = now()'), before + 3, 'gone')
  t.same(await listOf(pool), [])
  await migrated()
  t.same(await listOf(pool), readByDefault, 'and then it has its list again, of what is there')
  t.equal(await bySession('UPDATE users SET seen = now()'), before + 3)
  t.equal(await bySession("UPDATE users SET email = 'zz'"), before + 4)
  await pool.query('ALTER TABLE users DROP COLUMN revision CASCADE')
  await session.query("UPDATE users SET email = 'zzz'")
})

t.test('updates that set nothing of what a load reads do not call the trigger, unless another may change that where the update does not say so', async t => {
  const { pool, after, migrated } = await oneUser(t, `CREATE TABLE users (id bigserial PRIMARY KEY, seen timestamptz, updated_at timestamptz);
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := upper(NEW.email); RETURN NEW; END $$`)
  t.same(await listOf(pool), readByDefault)
  await pool.query('CREATE TRIGGER later AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp(); CREATE TRIGGER whole BEFORE UPDATE ON users EXECUTE FUNCTION stamp(); CREATE TRIGGER inserts BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION stamp()')
  t.same(await migrated(), [])
  t.same(await listOf(pool), readByDefault, 'those change nothing')
  await pool.query('CREATE TRIGGER set_updated_at BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()')
  t.same(await migrated({ harmlessTriggers: ['set_updated_at'] }), [])
  t.same(await listOf(pool), readByDefault, 'which is said to be harmless')
  t.same(await migrated(), [])
  t.same(await listOf(pool), [], 'which may change anything')
  t.equal(await after("UPDATE users SET seen = now(), email = 'a'"), 2)
  t.equal(await after('UPDATE users SET seen = now()'), 2, 'an update that changes nothing that is read')
  await pool.query('CREATE TRIGGER shout BEFORE UPDATE OF seen ON users FOR EACH ROW EXECUTE FUNCTION shout()')
  t.equal(await after('UPDATE users SET seen = now()'), 3, 'the other trigger did')
  await pool.query('ALTER TABLE users DISABLE TRIGGER shout; DROP TRIGGER set_updated_at ON users')
  await migrated()
  t.same(await listOf(pool), readByDefault, 'a disabled one changes nothing')
  await migrated({ columnLists: false })
  t.same(await listOf(pool), [])
  await pool.query('ALTER TABLE users ALTER COLUMN email TYPE varchar(320)')
  t.equal(await after('UPDATE users SET seen = now()'), 3)
})

t.test('a function that somebody else put in the place of ours is not taken for it, at the first migration or later', async t => {
  const { pool, url } = await pools(t)
  await pool.query('CREATE TABLE users (id bigserial PRIMARY KEY); CREATE ROLE mallory LOGIN PASSWORD \'mallory\'; GRANT CREATE, USAGE ON SCHEMA public TO mallory')
  const account = new URL(url)
  account.username = account.password = 'mallory'
  const mallory = poolOn(t, account.href)
  t.teardown(async () => { await pool.query('DROP OWNED BY mallory; DROP ROLE mallory') })
  const owner = async (): Promise<unknown> => (await pool.query("SELECT proowner::regrole::text AS owner, prosecdef AS definer, proconfig AS config FROM pg_proc WHERE proname = 'users_next_revision'")).rows[0]
  await mallory.query("CREATE FUNCTION users_next_revision() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
  await migrate({ pool })
  const ours = { owner: 'postgres', definer: false, config: null }
  t.same(await owner(), ours)
  await t.rejects(mallory.query("CREATE OR REPLACE FUNCTION users_next_revision() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"), { code: '42501' })
  for (const drift of ['SECURITY DEFINER', "SET search_path = ''", 'OWNER TO mallory']) {
    await pool.query(`ALTER FUNCTION users_next_revision() ${drift}`)
    await migrate({ pool })
    t.same(await owner(), ours, drift)
    t.same(await listOf(pool), readByDefault)
  }
  await migrate({ pool, to: 0 })
  t.same(await columnsOf(pool, 'users'), ['id bigint not null'], 'and what was noted is known still')
})

t.test('a comment of somebody else on the trigger is no note, and hinders no way', async t => {
  for (const comment of ['{see wiki}', '{"reads": 5}', '{"added": "email", "created": 1}', '[]', 'null', '7']) {
    const { pool } = await pools(t)
    await migrate({ pool })
    await pool.query(`COMMENT ON TRIGGER zz_users_revision ON users IS '${comment}'`)
    await migrate({ pool, columns: { email: 'contact' } })
    t.ok((await columnsOf(pool, 'users')).includes('contact text'), comment)
    await pool.query(`COMMENT ON TRIGGER zz_users_revision ON users IS '${comment}'`)
    await migrate({ pool, to: 0 })
  }
})

t.test('the revision covers what any version has read, as long as it is there', async t => {
  const { pool, after, migrated } = await oneUser(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, plan text, role text, seen timestamptz)')
  await migrated({ extra: ['plan'] })
  await migrated({ extra: ['role'] })
  t.same(await listOf(pool), [...readByDefault, 'plan', 'role'].sort())
  t.equal(await after("UPDATE users SET plan = 'pro'"), 2, 'for the version that still runs')
  t.equal(await after("UPDATE users SET role = 'admin'"), 3)
  await migrated()
  t.equal(await after("UPDATE users SET plan = 'free'"), 4)
  await pool.query(recipe.replace(/ALTER TABLE users ALTER COLUMN email.*;/, 'ALTER TABLE users DROP COLUMN plan;'))
  await migrated()
  t.same(await listOf(pool), [...readByDefault, 'role'].sort())
  t.equal(await after('UPDATE users SET seen = now()'), 4)
})

t.test('the revision follows what a computed column is computed from, stored or not', async t => {
  // Before PostgreSQL 18 every one is stored.
  const { pool, after } = await oneUser(t, `CREATE TABLE users (id bigserial PRIMARY KEY, name text, note text, stored text GENERATED ALWAYS AS (lower(name) || '!') STORED,
    virtual text GENERATED ALWAYS AS (upper(name) || note) ${postgresMajor() >= 18 ? 'VIRTUAL' : 'STORED'})`, { extra: ['stored', 'virtual'] })
  t.same(await listOf(pool), [...readByDefault, 'name', 'note'].sort())
  t.equal(await after("UPDATE users SET name = 'Ada'"), 2)
  t.equal(await after("UPDATE users SET note = 'x'"), 3)
  t.equal(await after("UPDATE users SET note = 'x', name = 'Ada'"), 3)
  t.equal(await after('UPDATE users SET last_clerk_sync = now()'), 3)
})

t.test('a table with partitions counts in each of them', async t => {
  const { pool } = await pools(t)
  await pool.query(`CREATE TABLE users (id bigint GENERATED BY DEFAULT AS IDENTITY, issuer text, clerk_user_id text, seen int, PRIMARY KEY (issuer, clerk_user_id)) PARTITION BY LIST (issuer);
    CREATE TABLE users_a PARTITION OF users FOR VALUES IN ('a'); CREATE TABLE users_b PARTITION OF users FOR VALUES IN ('b')`)
  await migrate({ pool })
  await pool.query("INSERT INTO users (issuer, clerk_user_id) VALUES ('a', '1'), ('b', '1')")
  await pool.query('UPDATE users SET seen = 1; UPDATE users_b SET is_active = false')
  t.same((await pool.query('SELECT issuer, revision::int FROM users ORDER BY 1')).rows, [{ issuer: 'a', revision: 1 }, { issuer: 'b', revision: 2 }])
  t.same([await listOf(pool, 'users_a'), await listOf(pool, 'users_b')], [readByDefault, readByDefault])
  await pool.query('CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := upper(NEW.email); RETURN NEW; END $$; CREATE TRIGGER shout BEFORE UPDATE ON users_b FOR EACH ROW EXECUTE FUNCTION shout()')
  await migrate({ pool })
  t.same([await listOf(pool, 'users_a'), await listOf(pool, 'users_b')], [[], []], 'a partition may have triggers of its own')
  await migrate({ pool, to: 0 })
  t.same(await columnsOf(pool, 'users'), ['clerk_user_id text not null', 'id bigint not null', 'issuer text not null', 'seen integer'])
})

t.test('a database of version 2 with users in it is brought up, and all the way down', async t => {
  const version2 = readFileSync(new URL('fixtures/version-2.sql', import.meta.url), 'utf8')
  for (const own of [false, true]) {
    const { pool } = await pools(t)
    if (own) await pool.query("CREATE TABLE users (id bigserial PRIMARY KEY, email text NOT NULL, seen timestamptz, raw json); INSERT INTO users (email) SELECT n || '@example.com' FROM generate_series(1, 500) AS n")
    const before = own ? { columns: await columnsOf(pool, 'users'), rows: (await pool.query('SELECT id, email FROM users ORDER BY id')).rows } : null
    await pool.query(version2)
    await pool.query("INSERT INTO users (issuer, clerk_user_id, email) SELECT $1, 'user_' || n, 'u' || n FROM generate_series(1, 500) AS n", [issuer])
    await pool.query("UPDATE users SET first_name = 'Ada'")
    const versions = (await pool.query('SELECT md5(array_agg(u ORDER BY id)::text) AS all FROM users AS u')).rows
    t.same(await migrate({ pool }), ['3.do.revision', '4.do.dead-letters'])
    t.same((await pool.query('SELECT md5(array_agg(u ORDER BY id)::text) AS all FROM users AS u')).rows, versions, 'no row was touched')
    t.same(await listOf(pool), readByDefault)
    await pool.query("UPDATE users SET last_clerk_sync = now(); UPDATE users SET last_name = 'Lovelace' WHERE clerk_user_id = 'user_7'")
    t.same((await pool.query('SELECT revision::int, count(*)::int FROM users WHERE clerk_user_id IS NOT NULL GROUP BY 1 ORDER BY 1')).rows, [{ revision: 2, count: 499 }, { revision: 3, count: 1 }])
    t.match(await one(syncOn(pool), request('user_7'), deadlineIn(t, 5000)), { revision: 3, user: { firstName: 'Ada', lastName: 'Lovelace' } })
    if (before !== null) await pool.query('DELETE FROM users WHERE clerk_user_id IS NOT NULL')
    t.same(await migrate({ pool, to: 0 }), ['4.undo.dead-letters', '3.undo.revision', '2.undo.records', '1.undo.users'])
    t.same(await columnsOf(pool, 'users'), before?.columns ?? [])
    if (before !== null) t.same((await pool.query('SELECT id, email FROM users ORDER BY id')).rows, before.rows)
    t.equal((await pool.query("SELECT FROM pg_proc WHERE proname LIKE '%next_revision'")).rowCount, 0)
  }
})

t.test('the note of a sync fires the app\'s own updated_at trigger at most once per force interval, whatever the instances', async t => {
  const { pool } = await pools(t)
  await pool.query(`CREATE TABLE users (id bigserial PRIMARY KEY, updated_at timestamptz, fired int NOT NULL DEFAULT 0);
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := clock_timestamp(); NEW.fired := OLD.fired + 1; RETURN NEW; END $$;
    CREATE TRIGGER set_updated_at BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()`)
  const harmless = { harmlessTriggers: ['set_updated_at'] }
  await migrate({ pool, ...harmless })
  const clock = new ManualClock({ now: Date.now() })
  const provider = providerOf(() => ({ kind: 'found', profile, version: 1_700_000_000_000 }))
  const instances = [1, 2, 3].map(() => syncOn(pool, { provider, clock, store: storeOn(pool, undefined, harmless) }))
  const fired = async (): Promise<number> => (await pool.query('SELECT fired FROM users')).rows[0].fired
  await one(instances[0]!, request('user_a'), deadlineIn(t, 5000))
  for (let hour = 1; hour <= 3; hour++) {
    for (let step = 0; step < 12; step++) {
      clock.jump(300_000)
      await Promise.all(instances.map(sync => one(sync, request('user_a'), deadlineIn(t, 5000))))
    }
    t.equal(await fired(), hour, `after ${hour} force intervals`)
  }
  t.equal((await pool.query('SELECT revision::int FROM users')).rows[0].revision, 1)
})
