import { readMarkSql, sessionKey, SourceUnavailable, startDeadline, systemClock, Withdrawals, type PoolLike, type StatementConfig, type UserRecord } from '@orientor/session-contract/core'
import { ManualClock, postgresFaults, testServer, until } from '@orientor/test-kit'
import fc from 'fast-check'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../src/migrate.js'
import { isNews, observe, type UserState } from '../src/observation.js'
import { PostgresUserStore } from '../src/postgres-user-store.js'
import { userColumns } from '../src/sql/user-row.js'
import { resolveUsersTable } from '../src/users-table.js'
import { tableNames, defaultTableNames } from '../src/table-names.js'
import { join } from './fixtures/join.js'
import {
  columnsOf, deadlineIn, issuer, one, poolOn, pools, profile, providerOf, recipe, request, storeOn, syncOn, watched
} from './fixtures/on-postgres.js'
import { profileUpdate } from '../src/user-update.js'

const ourTables = ['users', 'user_tombstones', 'sync_dead_letters', 'sync_checkpoints', 'smart_sync_migrations']

async function tablesIn (pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query("SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY 1")
  return rows.map(({ relname }) => relname)
}

async function triggersOf (pool: pg.Pool, table: string): Promise<readonly string[]> {
  const { rows } = await pool.query('SELECT tgname FROM pg_trigger WHERE tgrelid = $1::regclass AND NOT tgisinternal ORDER BY tgname', [table])
  return rows.map(({ tgname }) => tgname)
}

t.test('what a load reads', t => {
  t.test('is watched, and raises the revision when it changes', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const { columns, issuer: issuerColumn, subject, revision, harmlessTriggers } = storeOn(pool).watches[0]!
    const read = [...userColumns(resolveUsersTable({}), new Map(), 'm.mark').matchAll(/\bu\."(\w+)"/g)].map(([, column]) => column!)
    t.same([...read].sort(), [...columns, issuerColumn, subject, revision, 'last_clerk_sync'].sort())
    t.same(await triggersOf(pool, 'users'), harmlessTriggers)
    await pool.query("INSERT INTO users (issuer, clerk_user_id) VALUES ('https://idp.example', 'user_a')")
    const { rows: types } = await pool.query("SELECT attname, atttypid::regtype::text AS type FROM pg_attribute WHERE attrelid = 'users'::regclass")
    const values: Record<string, string> = { text: "'changed'", jsonb: '\'{"changed": 1}\'', boolean: 'NOT {}', 'timestamp with time zone': 'now()', bigint: '77' }
    for (const column of columns) {
      const before = (await pool.query('SELECT revision FROM users')).rows[0].revision
      await pool.query(`UPDATE users SET ${column} = ${values[types.find(({ attname }) => attname === column).type]!.replace('{}', column)}`)
      t.equal(Number((await pool.query('SELECT revision FROM users')).rows[0].revision), Number(before) + 1, column)
    }
  })
  t.end()
})

t.test('migrations', t => {
  t.test('go up, up again, down, and up once more', async t => {
    const { pool } = await pools(t)
    t.same(await migrate({ pool }), ['1.do.users', '2.do.records', '3.do.revision', '4.do.dead-letters'])
    t.same(await tablesIn(pool), ourTables.toSorted())
    t.same(await columnsOf(pool, 'users'), [
      'clerk_fingerprint text', 'clerk_updated_at timestamp with time zone', 'clerk_user_id text not null', 'deleted_at timestamp with time zone', 'email text',
      'first_name text', 'id bigint not null', 'is_active boolean not null', 'issuer text not null', 'last_clerk_sync timestamp with time zone', 'last_name text',
      'onboarding_completed boolean not null', 'profile_data jsonb', 'provider_blocked boolean not null', 'revision bigint not null',
      'revoked_sessions jsonb not null', 'tokens_valid_from timestamp with time zone'
    ])
    t.same(await migrate({ pool }), [])
    t.same(await migrate({ pool, to: 0 }), ['4.undo.dead-letters', '3.undo.revision', '2.undo.records', '1.undo.users'])
    t.same(await tablesIn(pool), [])
    t.same(await migrate({ pool, to: 0 }), [])
    t.equal((await pool.query("SELECT count(*)::int AS n FROM pg_proc WHERE proname LIKE '%next_revision'")).rows[0].n, 0)
    t.same(await migrate({ pool }), ['1.do.users', '2.do.records', '3.do.revision', '4.do.dead-letters'])
  })

  t.test('run once when five instances start at the same moment', async t => {
    const { pool, url } = await pools(t)
    const results = await Promise.all(Array.from({ length: 5 }, async () => await migrate({ pool: poolOn(t, url, 1), lockPollMs: 5 })))
    t.same(results.map(applied => applied.length).toSorted(), [0, 0, 0, 0, 4])
    t.equal((await pool.query('SELECT count(*)::int AS n FROM smart_sync_migrations')).rows[0].n, 4)
    t.equal((await pool.query("SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory'")).rows[0].n, 0)
  })

  t.test('need no right and no lock where there is nothing to do, and say what is missing where there is', async t => {
    const { pool, url } = await pools(t)
    // As PostgreSQL is since 15; before, anybody may create tables in the schema "public".
    await pool.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE ROLE needy LOGIN PASSWORD 'needy'; CREATE SCHEMA apart; GRANT USAGE ON SCHEMA apart TO needy")
    t.teardown(async () => { await pool.query('DROP OWNED BY needy; DROP ROLE needy') })
    const account = new URL(url)
    account.username = account.password = 'needy'
    const needy = poolOn(t, account.href, 1)
    const apart = tableNames.accept({ users: 'apart.users' })!
    for (const tables of [defaultTableNames, apart]) {
      t.same(await migrate({ pool: needy, tables, to: 0 }), [], 'nothing to take back')
      await t.rejects(migrate({ pool: needy, tables }), { code: 'ORI_SYNC_MIGRATION_FAILED', message: /permission denied for schema/ })
      await migrate({ pool, tables })
      await pool.query(Object.values(tables).map(table => `GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} TO needy`).join(';'))
      const holder = await pool.connect()
      await holder.query("SELECT pg_advisory_lock(hashtextextended('@orientor/smart-sync ' || $1, 0))", [tables.migrations])
      t.same(await migrate({ pool: needy, tables, lockWaitMs: 0 }), [], 'while another instance migrates')
      await holder.query('SELECT pg_advisory_unlock_all()')
      holder.release()
      const sync = syncOn(needy, { store: storeOn(needy, tables) })
      t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { kind: 'active', sync: 'performed' })
      await pool.query(`INSERT INTO ${tables.migrations} (version, name) VALUES (99, 'later')`)
      t.same(await migrate({ pool: needy, tables }), [], 'newer than this package')
    }
    await pool.query('REVOKE SELECT ON smart_sync_migrations FROM needy')
    await t.rejects(migrate({ pool: needy }), { code: 'ORI_SYNC_MIGRATION_FAILED', message: /permission denied for table smart_sync_migrations/ })
  })

  t.test('wait for another instance no longer than they are told, and can be called off', async t => {
    const { pool } = await pools(t)
    const holder = await pool.connect()
    await holder.query("SELECT pg_advisory_lock(hashtextextended('@orientor/smart-sync smart_sync_migrations', 0))")
    const clock = new ManualClock()
    const waiting = migrate({ pool, clock, lockWaitMs: 1000, lockPollMs: 100 })
    const tick = setInterval(() => { clock.advance(100) }, 5)
    t.teardown(() => { clearInterval(tick) })
    await t.rejects(waiting, { code: 'ORI_SYNC_MIGRATION_LOCKED' })
    await t.rejects(migrate({ pool, signal: AbortSignal.abort() }), SourceUnavailable)
    t.equal(pool.idleCount, 1, 'the connection that waited is good for others')
    await holder.query('SELECT pg_advisory_unlock_all()')
    holder.release()
    t.equal((await migrate({ pool })).length, 4)
  })

  for (const [kind, id] of Object.entries({ bigint: 'bigint GENERATED ALWAYS AS IDENTITY', int: 'serial', uuid: 'uuid DEFAULT gen_random_uuid()' })) {
    t.test(`complete an existing table with ${kind} ids, and leave it as it was`, async t => {
      const { pool } = await pools(t)
      await pool.query(`CREATE TABLE users (id ${id} PRIMARY KEY, email varchar(200) NOT NULL UNIQUE, first_name text NOT NULL DEFAULT '', is_active boolean DEFAULT true,
        points int NOT NULL DEFAULT 7, slug text GENERATED ALWAYS AS (lower(email)) STORED, "odd name" json, created_at timestamptz NOT NULL DEFAULT now())`)
      await pool.query("INSERT INTO users (email) SELECT 'u' || n || '@example.com' FROM generate_series(1, 1000) AS n")
      const filenode = (await pool.query("SELECT pg_relation_filenode('users') AS node")).rows[0].node
      const before = await columnsOf(pool, 'users')
      const rowsBefore = (await pool.query('SELECT * FROM users ORDER BY email')).rows

      await migrate({ pool })
      t.equal((await pool.query("SELECT pg_relation_filenode('users') AS node")).rows[0].node, filenode, 'the table was not rewritten')
      t.equal((await pool.query('SELECT count(*)::int AS n FROM users WHERE revision = 1 AND NOT provider_blocked')).rows[0].n, 1000)

      const sync = syncOn(pool)
      const deadline = deadlineIn(t, 5000)
      const record = await one(sync, request('user_new', { email: 'new@example.com' }), deadline)
      t.match(record, { kind: 'active', user: { email: 'new@example.com', onboardingCompleted: false } })
      t.equal((await pool.query("SELECT id::text FROM users WHERE clerk_user_id = 'user_new'")).rows[0].id, record.kind === 'active' && record.user.userId)
      const collision = await one(sync, request('user_other', { email: 'u1@example.com', given_name: 'Otto' }), deadline)
      t.match(collision, { kind: 'active', sync: 'performed', user: { email: null, firstName: 'Otto' } }, 'an address that is another\'s keeps nobody out')
      t.equal(sync.stats.snapshot().emailCollisions, 1)
      t.match(await one(sync, request('user_none'), deadline), { kind: 'active', user: { email: null } })

      // The stored generated column must not make a touch look like a change.
      await pool.query("UPDATE users SET last_clerk_sync = now() WHERE clerk_user_id = 'user_new'")
      t.equal((await pool.query("SELECT revision FROM users WHERE clerk_user_id = 'user_new'")).rows[0].revision, '1')
      await pool.query("UPDATE users SET points = 8 WHERE clerk_user_id = 'user_new'")
      t.equal((await pool.query("SELECT revision FROM users WHERE clerk_user_id = 'user_new'")).rows[0].revision, '1')
      await pool.query("UPDATE users SET first_name = 'New' WHERE clerk_user_id = 'user_new'")
      t.equal((await pool.query("SELECT revision FROM users WHERE clerk_user_id = 'user_new'")).rows[0].revision, '2')

      await pool.query('DELETE FROM users WHERE clerk_user_id IS NOT NULL')
      await migrate({ pool, to: 0 })
      t.same(await columnsOf(pool, 'users'), before)
      t.same((await pool.query('SELECT * FROM users ORDER BY email')).rows, rowsBefore)
      t.same(await tablesIn(pool), ['users'])
    })
  }

  t.test('go down past the triggers that announce changes', async t => {
    const { pool } = await pools(t)
    await pool.query('CREATE TABLE users (id bigserial PRIMARY KEY)')
    await migrate({ pool })
    const [watched] = storeOn(pool).watches
    const list = [watched!.subject, watched!.issuer as string, ...watched!.columns.filter(column => column !== 'id')].join(', ')
    await pool.query('CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$')
    await pool.query(`CREATE TRIGGER orientor_0123456789ab_0_row AFTER INSERT OR DELETE OR UPDATE OF ${list} ON users FOR EACH ROW EXECUTE FUNCTION nothing()`)
    await pool.query(`CREATE TRIGGER orientor_outbox_0123456789ab_row AFTER INSERT OR DELETE OR UPDATE OF ${list} ON users FOR EACH ROW EXECUTE FUNCTION nothing()`)
    await migrate({ pool, to: 0 })
    t.same(await columnsOf(pool, 'users'), ['id bigint not null'])
    t.equal((await pool.query("SELECT FROM pg_proc WHERE proname = 'nothing'")).rowCount, 0, 'of the first kind the function goes, too')
  })

  t.test('keep a column nullable on the way down when it holds null by then', async t => {
    const { pool } = await pools(t)
    await pool.query('CREATE TABLE users (id bigserial PRIMARY KEY, email text NOT NULL)')
    await migrate({ pool })
    await one(syncOn(pool), request('user_a'), deadlineIn(t, 5000))
    await migrate({ pool, to: 0 })
    t.same(await columnsOf(pool, 'users'), ['email text', 'id bigint not null'])
    t.equal((await pool.query('SELECT count(*)::int AS n FROM users')).rows[0].n, 1)
  })

  t.test('use a unique index that is there, and columns of ours that are there', async t => {
    const { pool } = await pools(t)
    await pool.query('CREATE TABLE users (id bigserial PRIMARY KEY, clerk_user_id varchar(64), issuer text, last_clerk_sync timestamptz, UNIQUE (clerk_user_id, issuer))')
    await migrate({ pool })
    t.equal((await pool.query("SELECT count(*)::int AS n FROM pg_index WHERE indrelid = 'users'::regclass")).rows[0].n, 2)
    t.match(await one(syncOn(pool), request('user_a'), deadlineIn(t, 5000)), { sync: 'performed' })
    await migrate({ pool, to: 0 })
    t.same(await columnsOf(pool, 'users'), ['clerk_user_id character varying', 'id bigint not null', 'issuer text', 'last_clerk_sync timestamp with time zone'])
  })

  t.test('take tables of other names and schemas, case and all', async t => {
    const { pool } = await pools(t)
    await pool.query('CREATE SCHEMA "Auth"')
    const tables = tableNames.accept({ users: 'Auth.People' })!
    await migrate({ pool, tables })
    t.same(await tablesIn(pool), [])
    const sync = syncOn(pool, { store: storeOn(pool, tables) })
    t.same(await triggersOf(pool, '"Auth"."People"'), sync.watches[0]!.harmlessTriggers)
    t.match(sync.watches, [{ schema: 'Auth', table: 'People', issuer: 'issuer', subject: 'clerk_user_id', revision: 'revision' }])
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { sync: 'performed' })
    await pool.query('UPDATE "Auth"."People" SET is_active = false')
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { kind: 'inactive', revision: 2 })
    await migrate({ pool })
    t.match(await one(syncOn(pool), request('user_b'), deadlineIn(t, 5000)), { sync: 'performed' }, 'two sets of tables share one pool')
    await migrate({ pool, tables, to: 0 })
    t.equal((await pool.query("SELECT count(*)::int AS n FROM pg_class WHERE relnamespace = '\"Auth\"'::regnamespace")).rows[0].n, 0)
    t.ok((await tablesIn(pool)).includes('users'))
  })

  t.test('refuse what they cannot complete, say why, and change nothing', async t => {
    const refuses = async (t: Test, made: string, message: RegExp): Promise<void> => {
      const { pool } = await pools(t)
      await pool.query(made)
      await t.rejects(migrate({ pool }), { code: 'ORI_SYNC_MIGRATION_FAILED', message })
      t.same((await tablesIn(pool)).filter(name => name !== 'users'), [])
      t.equal(pool.idleCount, 1, 'the connection is good for others')
    }
    await refuses(t, 'CREATE TABLE users (email text)', /has no column "id"/)
    await refuses(t, 'CREATE VIEW users AS SELECT 1 AS id', /is not a table/)
    await refuses(t, 'CREATE TABLE users (id bigserial, clerk_updated_at text)', /column "clerk_updated_at" of users has type text; smart-sync can use timestamptz/)
  })

  t.test('leave what a newer version made, and do not share a table of versions between two users tables', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    await t.rejects(migrate({ pool, tables: tableNames.accept({ users: 'people' })! }), { code: 'ORI_SYNC_MIGRATION_FAILED', message: /no table "people"/ })
    await pool.query('INSERT INTO smart_sync_migrations (version, name) VALUES (99, \'later\')')
    t.same(await migrate({ pool }), [])
    t.same(await tablesIn(pool), ourTables.toSorted())
  })

  t.test('are not failures of their own when the database is away', async t => {
    const nowhere = poolOn(t, 'postgres://127.0.0.1:1/none')
    await t.rejects(migrate({ pool: nowhere }), SourceUnavailable)
  })
  t.end()
})

t.test('the revision', t => {
  t.test('grows by one with any real change, by whomever, and with nothing else', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    await pool.query("INSERT INTO users (issuer, clerk_user_id) VALUES ('i', 'a')")
    const after = async (statement: string): Promise<string> => {
      await pool.query(statement)
      return (await pool.query('SELECT revision FROM users')).rows[0].revision
    }
    t.equal(await after('SELECT 1'), '1')
    t.equal(await after('UPDATE users SET last_clerk_sync = now()'), '1')
    t.equal(await after('UPDATE users SET is_active = is_active'), '1')
    t.equal(await after('UPDATE users SET is_active = false'), '2')
    t.equal(await after('UPDATE users SET revision = 99'), '2', 'nobody sets it')
    t.equal(await after("UPDATE users SET revoked_sessions = '{\"s\": 1}', revision = 5"), '3')
    t.equal(await after("SET session_replication_role = 'replica'; UPDATE users SET first_name = 'x'; RESET session_replication_role"), '4')
    await pool.query('ALTER TABLE users ADD COLUMN added_later json')
    t.equal(await after("UPDATE users SET added_later = '{}'"), '4', 'which no load reads')
  })
  t.end()
})

t.test('the store', t => {
  t.test('reads every column as it is written, whatever parsers the app has set', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    await pool.query(`INSERT INTO users (id, issuer, clerk_user_id, email, first_name, last_name, profile_data, onboarding_completed, last_clerk_sync, clerk_updated_at, clerk_fingerprint, tokens_valid_from, revoked_sessions)
      VALUES (9007199254740993, $1, 'user_a', 'a@b.c', 'A', 'B', '{"x": 1}', true, '2024-03-18T17:49:59.431Z', '2024-03-18T17:49:59.4319Z', '10', '2024-01-01Z', '{"sess_1": 1, "sess_2": 2}')`, [issuer])
    const kept = pg.types.getTypeParser(20)
    pg.types.setTypeParser(20, Number)
    t.teardown(() => { pg.types.setTypeParser(20, kept) })
    const store = storeOn(pool)
    const key = request('user_a').key
    const { rows: [{ readMark }] } = await pool.query(`SELECT ${readMarkSql('"users"')} AS "readMark"`)
    t.same([...(await store.find([request('user_a'), request('user_b')], deadlineIn(t, 5000))).users.values()], [{
      key,
      issuer,
      subject: 'user_a',
      userId: '9007199254740993',
      email: 'a@b.c',
      firstName: 'A',
      lastName: 'B',
      profile: { x: 1 },
      isActive: true,
      blocked: false,
      onboardingCompleted: true,
      lastSyncedAtMs: 1_710_784_199_431,
      providerUpdatedAtMs: 1_710_784_199_432,
      version: 1_710_784_199_432,
      fingerprint: '10',
      tokensValidFromMs: 1_704_067_200_000,
      revokedSessions: ['sess_1', 'sess_2'],
      deleted: false,
      revision: 1,
      extra: {},
      readMark
    }])
    await pool.query("UPDATE users SET clerk_updated_at = 'infinity', profile_data = '[1]', tokens_valid_from = NULL")
    t.match((await store.find([request('user_a')], deadlineIn(t, 5000))).users.get(key), { version: null, profile: null, tokensValidFromMs: 0 })
  })

  t.test('decides in SQL as isNews() does in JavaScript, and any order of any observations converges', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const store = storeOn(pool)
    const deadline = deadlineIn(t, 60_000)
    let users = 0
    const sighting = fc.record({ version: fc.constantFrom(null, 1_700_000_000_000, 1_700_000_000_001, 1_700_000_001_000), name: fc.constantFrom('A', 'B', null), blocked: fc.boolean(), complete: fc.boolean() })
    await fc.assert(fc.asyncProperty(fc.array(sighting, { minLength: 1, maxLength: 6 }), async sightings => {
      const subject = `user_${users++}`
      let expected: UserState | null = null
      for (const { version, name, blocked, complete } of sightings) {
        const observation = observe(issuer, subject, { ...profile, email: null, firstName: name, blocked }, version, complete)
        const news = isNews(expected, observation)
        const result = await store.write([profileUpdate(observation)], { syncedAtMs: null, creates: true }, deadline)
        if (result.kind !== 'done' || result.written.has(observation.key) !== news) return false
        if (news) expected = { deleted: false, version: observation.version, fingerprint: observation.fingerprint }
        const stored = (await store.find([request(subject)], deadline)).users.get(observation.key)
        if (stored?.version !== expected!.version || stored?.fingerprint !== expected!.fingerprint) return false
      }
      return true
    }), { numRuns: 150 })
    await fc.assert(fc.asyncProperty(fc.array(sighting.filter(({ version }) => version !== null), { minLength: 2, maxLength: 8 }), async sightings => {
      const subject = `user_${users++}`
      const observations = sightings.map(({ version, name, blocked, complete }) => observe(issuer, subject, { ...profile, email: null, firstName: name, blocked }, version, complete))
      await Promise.all(observations.map(async observation => await store.write([profileUpdate(observation)], { syncedAtMs: null, creates: true }, deadline)))
      const winner = observations.map((observation): UserState => ({ deleted: false, ...observation })).reduce(join)
      const stored = (await store.find([request(subject)], deadline)).users.get(sessionKey(issuer, subject))
      return stored?.version === winner.version && stored?.fingerprint === winner.fingerprint
    }), { numRuns: 60 })
  })

  t.test('a partial profile keeps what it does not tell, and the provider\'s bar', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const store = storeOn(pool)
    const deadline = deadlineIn(t, 5000)
    await store.write([profileUpdate(observe(issuer, 'user_a', { ...profile, blocked: true }, 1_700_000_000_000, true))], { syncedAtMs: null, creates: true }, deadline)
    await store.write([profileUpdate(observe(issuer, 'user_a', { email: null, firstName: 'Eve', lastName: null, blocked: false, data: null }, 1_700_000_001_000, false))], { syncedAtMs: 1_700_000_002_000, creates: true }, deadline)
    const stored = (await store.find([request('user_a')], deadline)).users.get(request('user_a').key)
    t.match(stored, { email: 'ada@example.com', firstName: 'Eve', lastName: 'Lovelace', profile: { plan: 'pro' }, blocked: true, revision: 2, lastSyncedAtMs: 1_700_000_002_000 })
    await store.write([profileUpdate(observe(issuer, 'user_a', { ...profile, lastName: null }, 1_700_000_003_000, true))], { syncedAtMs: null, creates: true }, deadline)
    t.match((await store.find([request('user_a')], deadline)).users.get(request('user_a').key), { firstName: 'Ada', lastName: null, blocked: false, lastSyncedAtMs: 1_700_000_002_000 })
  })

  t.test('deleted users stay so: with a row, and with a tombstone only', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const deadline = deadlineIn(t, 5000)
    await pool.query("INSERT INTO users (issuer, clerk_user_id, deleted_at) VALUES ($1, 'user_row', now())", [issuer])
    await pool.query("INSERT INTO user_tombstones (issuer, clerk_user_id) VALUES ($1, 'user_none')", [issuer])
    const sync = syncOn(pool, { provider: providerOf(() => ({ kind: 'found', profile, version: Date.now() })) })
    t.match(await Promise.all(sync.load([request('user_row'), request('user_none')], deadline)), [{ kind: 'deleted', revision: 1 }, { kind: 'deleted', revision: 0 }])
    const result = await storeOn(pool).write([profileUpdate(observe(issuer, 'user_row', profile, Date.now(), true))], { syncedAtMs: null, creates: true }, deadline)
    t.ok(result.kind === 'done' && result.written.size === 0)
    t.equal((await pool.query('SELECT count(*)::int AS n FROM users')).rows[0].n, 1)
  })

  t.test('columns that the app owns are never written', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const deadline = deadlineIn(t, 5000)
    const version = { now: 1_700_000_000_000 }
    const sync = syncOn(pool, { provider: providerOf(() => ({ kind: 'found', profile, version: version.now })) })
    await one(sync, request('user_a'), deadline)
    await pool.query('UPDATE users SET is_active = false, onboarding_completed = true')
    version.now += 1000
    t.match(await one(sync, request('user_a', {}, { force: true }), deadline), { kind: 'inactive', revision: 3 })
    t.match((await pool.query('SELECT is_active, onboarding_completed FROM users')).rows, [{ is_active: false, onboarding_completed: true }])
  })

  t.test('refusals name the place, never the value', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    await pool.query("ALTER TABLE users ADD COLUMN required text NOT NULL DEFAULT 'x', ADD CONSTRAINT short CHECK (length(first_name) < 10)")
    await pool.query('ALTER TABLE users ALTER COLUMN required DROP DEFAULT')
    const deadline = deadlineIn(t, 5000)
    const refused = await one(syncOn(pool), request('user_a', { given_name: 'secret' }), deadline).catch((error: unknown) => error as Error)
    t.match(refused, { code: 'ORI_SYNC_ROW_REFUSED', message: /SQLSTATE 23502, table users, column required/ })
    t.notMatch((refused as Error).message, /secret/)
    await pool.query('ALTER TABLE users DROP COLUMN required')
    t.match(await one(syncOn(pool), request('user_b', { given_name: 'x'.repeat(20) }), deadline).catch((error: unknown) => error), { code: 'ORI_SYNC_ROW_REFUSED', message: /constraint short/ })
    await pool.query('CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM missing; RETURN NEW; END $$; CREATE TRIGGER audit BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION audit()')
    t.match(await one(syncOn(pool), request('user_c'), deadline).catch((error: unknown) => error), { code: 'ORI_SYNC_STATEMENT_REFUSED', message: /42P01/ }, 'a table that a trigger of the app misses')
  })

  t.test('what is refused for now is unavailable: of reading, of writing, and of whatever is known of it', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const lines: string[] = []
    const withdrawals = new Withdrawals('sync', { error: (_details, message) => { lines.push(message) }, info: (_details, message) => { lines.push(message) } }, systemClock)
    const store = new PostgresUserStore({ pool: () => pool, tables: defaultTableNames, clock: systemClock, random: () => 0, withdrawals })
    const sync = syncOn(pool, { store })
    const deadline = deadlineIn(t, 5000)
    await one(sync, request('user_a', { given_name: 'Ada' }), deadline)
    await pool.query('ALTER TABLE user_tombstones RENAME TO gone')
    await t.rejects(one(sync, request('user_b'), deadline), { code: 'ORI_SOURCE_UNAVAILABLE', message: 'PostgreSQL refuses: a table is not there, or not on the search path (42P01)' })
    t.match(await one(sync, request('user_a', { given_name: 'Augusta', updated_at: 1_700_000_000 }, { force: true }), deadline), { sync: 'performed', user: { firstName: 'Augusta' } }, 'who has a row is written: it takes no tombstone')
    t.match(store.refusedWrites, { code: '42P01' })
    await store.ping(deadline)
    t.match(lines.splice(0), [/^sync: PostgreSQL refuses to make rows of new users: .*42P01/])
    await pool.query('ALTER TABLE gone RENAME TO user_tombstones; ALTER TABLE users RENAME TO gone')
    await t.rejects(store.ping(deadline), SourceUnavailable)
    await t.rejects(async () => { await store.find([request('user_a')], deadline) }, SourceUnavailable)
    await pool.query('ALTER TABLE gone RENAME TO users')
    await one(sync, request('user_b'), deadline)
    t.equal(store.refusedWrites, null)
    t.match(lines, [/refuses to read users/, /does not refuse to read users any more/, /does not refuse to make rows of new users any more/])
  })

  t.test('a table that changes under prepared statements fails none of them, on any connection of a stock pool', async t => {
    const { pool } = await pools(t, 4)
    await migrate({ pool })
    const sync = syncOn(pool)
    const all = async (): Promise<void> => {
      const records = await Promise.all(Array.from({ length: 16 }, async (_, n) => await one(sync, request(`user_${n}`, {}, { force: true }), deadlineIn(t, 5000))))
      t.ok(records.every(({ kind }) => kind === 'active'))
    }
    for (const change of [
      'SELECT 1',
      recipe,
      'ALTER TABLE users ALTER COLUMN id TYPE integer',
      'ALTER TABLE users ADD COLUMN plan text',
      'BEGIN; ALTER TABLE users RENAME TO before; CREATE TABLE users (LIKE before INCLUDING ALL); INSERT INTO users SELECT * FROM before; ALTER TABLE users ALTER COLUMN first_name TYPE varchar(99); COMMIT'
    ]) {
      await pool.query(change)
      await all()
      await all()
    }
  })

  t.test('a statement that lost a race is sent again, five times at most; a cancelled one is not', async t => {
    const sent: number[] = []
    const failing = (code: string, times: number): PoolLike => {
      let left = times
      return {
        async query () {
          sent.push(left)
          if (left-- > 0) throw Object.assign(new Error('no'), { code })
          return { rows: [] }
        },
        connect: async () => { throw new Error('not used') }
      }
    }
    const ping = async (code: string, times: number): Promise<number> => {
      sent.length = 0
      const clock = new ManualClock()
      const pool = failing(code, times)
      const pinged = new PostgresUserStore({ pool: () => pool, tables: defaultTableNames, clock, random: () => 0.999 }).ping(startDeadline(clock, 2000))
      pinged.catch(() => {})
      for (let turn = 0; turn < 8; turn++) {
        await clock.settle()
        clock.advance(200)
      }
      await pinged
      return sent.length
    }
    for (const code of ['40001', '40P01', '55P03']) t.equal(await ping(code, 5), 6)
    await t.rejects(ping('40001', 6), SourceUnavailable)
    t.equal(sent.length, 6)
    await t.rejects(ping('57014', 1), SourceUnavailable)
    t.equal(sent.length, 1)
    await t.rejects(ping('ECONNREFUSED', 1), SourceUnavailable)
    await t.rejects(ping('XX000', 1), { code: 'ORI_SYNC_STATEMENT_REFUSED' })
    const clock = new ManualClock()
    await t.rejects(new PostgresUserStore({ pool: () => ({ ...failing('', 0), query: async () => { throw new TypeError('odd') } }), tables: defaultTableNames, clock, random: () => 0 }).ping(startDeadline(clock, 1)), { message: /no SQLSTATE/ })
  })

  t.test('behind a pooler that gives out other connections, statements are sent without a name from the first sign of it on', async t => {
    const { pool, counted, url } = await pools(t, 1)
    const deadline = deadlineIn(t, 10_000)
    await migrate({ pool, tables: defaultTableNames, clock: systemClock })
    const keys = [{ key: sessionKey(issuer, 'user_a'), issuer, subject: 'user_a' }]
    const store = storeOn(counted)
    await store.write([profileUpdate(observe(issuer, 'user_a', profile, 1_700_000_000_000, true))], { syncedAtMs: null, creates: true }, deadline)
    await store.find(keys, deadline)
    const name = counted.statements.at(-1)!

    await pool.query('DEALLOCATE ALL')
    t.equal((await store.find(keys, deadline)).users.size, 1, 'not there (26000)')
    await store.find(keys, deadline)
    const [named, unnamed, ...later] = counted.statements.slice(3)
    t.equal(named, name)
    t.match(unnamed, /^SELECT/)
    t.strictSame(later, [unnamed], 'not tried again')
    t.equal(store.statements, 6)

    const other = poolOn(t, url, 1)
    await other.query(`PREPARE ${name} AS SELECT 1`)
    t.equal((await storeOn(other).find(keys, deadline)).users.size, 1, 'there already (42P05)')
  })

  t.test('nothing is sent when no time is left', async t => {
    const { counted } = await pools(t)
    const clock = new ManualClock()
    const deadline = startDeadline(clock, 10)
    clock.advance(10)
    await t.rejects(storeOn(counted).ping({ ...deadline, atMs: Infinity }), SourceUnavailable)
    await t.rejects(storeOn(counted).ping({ signal: new AbortController().signal, atMs: 0 }), SourceUnavailable)
    t.same(counted.statements, [])
  })

  t.test('a statement that hangs is given up at the deadline, and does not poison the pool', async t => {
    const { pool } = await pools(t, 1)
    await migrate({ pool })
    const blocker = new pg.Client({ connectionString: pool.options.connectionString as string })
    await blocker.connect()
    await blocker.query('BEGIN; LOCK TABLE users')
    const sync = syncOn(pool)
    await t.rejects(one(sync, request('user_a'), deadlineIn(t, 150)), SourceUnavailable)
    await blocker.query('ROLLBACK')
    await blocker.end()
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { sync: 'performed' })
  })
  t.end()
})

t.test('smart sync on PostgreSQL', t => {
  t.test('50 first requests of one user on three instances make one row, and all get its id', async t => {
    const { pool, url } = await pools(t)
    await migrate({ pool })
    const provider = providerOf(() => ({ kind: 'found', profile, version: 1_700_000_000_000 }))
    const instances = Array.from({ length: 3 }, () => syncOn(poolOn(t, url, 5), { provider }))
    const records = await Promise.all(Array.from({ length: 50 }, async (_, n) => await one(instances[n % 3]!, request('user_a'), deadlineIn(t, 10_000))))
    t.equal(new Set(records.map(record => record.kind === 'active' ? record.user.userId : record.kind)).size, 1)
    t.equal((await pool.query('SELECT count(*)::int AS n FROM users')).rows[0].n, 1)
    const totals = instances.map(({ stats }) => stats.snapshot())
    t.equal(totals.reduce((sum, { profileCreates }) => sum + profileCreates, 0), 1)
    t.equal(totals.reduce((sum, { attempts }) => sum + attempts, 0), 50)
  })

  t.test('10,000 unknown users cost at most 150 statements, inserts included; then one for every batch', async t => {
    const { pool, counted } = await pools(t)
    await migrate({ pool })
    const provider = providerOf(() => ({ kind: 'found', profile: { ...profile, email: null }, version: 1_700_000_000_000 }))
    const sync = syncOn(counted, { provider })
    const batches = Array.from({ length: 20 }, (_, batch) => Array.from({ length: 500 }, (_, n) => request(`user_${batch * 500 + n}`)))
    const started = performance.now()
    await Promise.all(batches.flatMap(batch => sync.load(batch, deadlineIn(t, 60_000))))
    t.comment(`${counted.statements.length} statements, ${Math.round(performance.now() - started)} ms`)
    t.ok(counted.statements.length <= 150, `${counted.statements.length} statements`)
    t.equal((await pool.query('SELECT count(*)::int AS n FROM users')).rows[0].n, 10_000)
    counted.statements.length = 0
    await Promise.all(batches.flatMap(batch => sync.load(batch, deadlineIn(t, 60_000))))
    t.equal(counted.statements.length, 20)
  })

  t.test('an unchanged user costs no write but one touch per force interval, whatever the instances', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const clock = new ManualClock({ now: Date.now() })
    const provider = providerOf(() => ({ kind: 'found', profile, version: 1_700_000_000_000 }))
    const instances = [1, 2, 3].map(() => syncOn(pool, { provider, clock }))
    const deadline = startDeadline(clock, 5000) // only the wall clock moves
    const all = async (): Promise<void> => { await Promise.all(instances.map(async sync => await one(sync, request('user_a'), deadline))) }
    const version = async (): Promise<string> => (await pool.query('SELECT xmin::text || ctid::text AS v FROM users')).rows[0].v
    await all()
    const first = await version()
    for (let minute = 0; minute < 59; minute++) {
      clock.jump(60_000)
      await all()
    }
    t.equal(await version(), first)
    clock.jump(60_000)
    await all()
    const touched = await version()
    t.not(touched, first)
    await all()
    t.equal(await version(), touched)
    t.equal((await pool.query('SELECT revision FROM users')).rows[0].revision, '1')
  })

  t.test('a row that the table does not take any more spoils nobody else\'s note, nor login', async t => {
    for (const [what, harm] of Object.entries({
      'a constraint that came later': "ALTER TABLE users ADD CHECK (first_name <> 'legacy') NOT VALID",
      'a trigger that refuses': "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.first_name = 'legacy' THEN RAISE 'frozen'; END IF; RETURN NEW; END $$; CREATE TRIGGER frozen BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION refuse()",
      'a division by zero in a trigger': "CREATE FUNCTION divide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.first_name = 'legacy' THEN PERFORM 1 / 0; END IF; RETURN NEW; END $$; CREATE TRIGGER divided BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION divide()"
    })) {
      const { pool } = await pools(t)
      await migrate({ pool })
      await pool.query('INSERT INTO users (issuer, clerk_user_id, first_name, clerk_updated_at, clerk_fingerprint) SELECT $1, \'user_\' || n, CASE n WHEN 3 THEN \'legacy\' ELSE \'Ada\' END, \'2023-11-14T22:13:20Z\', \'1\' || repeat(\'f\', 64) FROM generate_series(1, 7) AS n', [issuer])
      await pool.query(harm)
      const provider = providerOf(() => ({ kind: 'found', profile, version: 1_600_000_000_000 }))
      const sync = syncOn(pool, { provider })
      const load = async (): Promise<void> => {
        const records = await Promise.all(sync.load([...Array.from({ length: 7 }, (_, n) => request(`user_${n + 1}`)), request('new')], deadlineIn(t, 5000)))
        t.same(new Set(records.map(({ kind }) => kind)), new Set(['active']), what)
      }
      await load()
      // The server tells an error before it gives the locks back, and users whose rows are locked are left out: they are noted with the next load.
      await until('the others are noted', async () => {
        await load()
        return (await pool.query('SELECT FROM users WHERE last_clerk_sync IS NULL')).rowCount! <= 1
      })
      t.same((await pool.query('SELECT clerk_user_id FROM users WHERE last_clerk_sync IS NULL')).rows, [{ clerk_user_id: 'user_3' }])
    }
  })

  t.test('a row without a timestamp is in step after the first token, or answer of the provider, that dates the user', async t => {
    const { pool, counted } = await pools(t)
    await migrate({ pool })
    const base = 1_700_000_000_000
    await pool.query("INSERT INTO users (issuer, clerk_user_id, first_name, last_clerk_sync) SELECT $1, s, 'old', now() FROM unnest($2::text[]) AS s", [issuer, ['claims', 'provider']])
    const deadline = deadlineIn(t, 5000)
    let asked = 0
    const provider = providerOf(() => { asked++; return { kind: 'found', profile: { ...profile, firstName: 'new' }, version: base } })
    for (const [subject, sync] of [['claims', syncOn(counted)], ['provider', syncOn(counted, { provider })]] as const) {
      t.match(await one(sync, request(subject), deadline), { sync: 'skipped', user: { firstName: 'old' } }, 'a token that dates nothing')
      const dated = request(subject, { given_name: 'new', updated_at: base / 1000 })
      t.match(await one(sync, dated, deadline), { sync: 'performed', user: { firstName: 'new', providerUpdatedAt: base } })
      counted.statements.length = 0
      t.match(await one(sync, dated, deadline), { sync: 'skipped' })
      t.equal(counted.statements.length, 1, 'and then it is as any other')
    }
    t.equal(asked, 1)
  })

  t.test('changes that arrive out of order converge to the newest', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const base = 1_700_000_000_000
    const syncs = fc.sample(fc.shuffledSubarray(Array.from({ length: 20 }, (_, n) => n), { minLength: 20 }), { numRuns: 1, seed: 7 })[0]!.map(n => {
      return syncOn(pool, { provider: providerOf(() => ({ kind: 'found', profile: { ...profile, firstName: `v${n}` }, version: base + n })) })
    })
    await Promise.all(syncs.map(async sync => await one(sync, request('user_a', {}, { force: true }), deadlineIn(t, 10_000))))
    t.match((await pool.query('SELECT first_name, count(*) OVER ()::int AS n FROM users')).rows, [{ first_name: 'v19', n: 1 }])
  })

  t.test('batches of the same users in any order from several instances do not deadlock', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    let version = 1_700_000_000_000
    const runs = Array.from({ length: 40 }, async () => {
      const sync = syncOn(pool, { provider: providerOf(() => ({ kind: 'found', profile: { ...profile, email: null }, version: version++ })) })
      const subjects = fc.sample(fc.shuffledSubarray(Array.from({ length: 60 }, (_, n) => `user_${n}`), { minLength: 30 }), 1)[0]!
      return await Promise.all(sync.load(subjects.map(subject => request(subject, {}, { force: true })), deadlineIn(t, 20_000)))
    })
    t.ok((await Promise.all(runs)).flat().every(record => record.kind === 'active' && record.sync !== 'failed'))
    t.equal((await pool.query('SELECT deadlocks::int AS n FROM pg_stat_database WHERE datname = current_database()')).rows[0].n, 0)
  })

  t.test('hostile texts change nothing but their own row', async t => {
    const { pool } = await pools(t)
    await migrate({ pool })
    const nasty = "'; DROP TABLE users; -- \0 {\"a\",NULL} \\ \ud800"
    const record = await one(syncOn(pool), request('user_-O\'Brien"; --', { email: nasty, given_name: '{NULL}', family_name: 'NULL' }), deadlineIn(t, 5000))
    t.match(record, { user: { subject: 'user_-O\'Brien"; --', email: nasty.replace('\0', '').replace('\ud800', '\ufffd'), firstName: '{NULL}', lastName: 'NULL' } })
    t.equal((await pool.query('SELECT count(*)::int AS n FROM users')).rows[0].n, 1)
  })

  t.test('a database that dies is unavailable, and is used again when it is back', async t => {
    const server = await testServer(t)
    const url = await server.createDatabase()
    const pool = poolOn(t, url)
    await migrate({ pool })
    const sync = syncOn(pool)
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { sync: 'performed' })
    // All of it: a session may outlive its postmaster for a moment, and serve.
    const killed = await postgresFaults(t, { url, server }).killCluster()
    await t.rejects(one(sync, request('user_a'), deadlineIn(t, 2000)), SourceUnavailable)
    await t.rejects(one(sync, request('user_b'), deadlineIn(t, 2000)), SourceUnavailable)
    await killed.heal()
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { sync: 'skipped' })
  })
  t.end()
})

t.test('revocations written by hand count: infinity, and a plain list', async t => {
  const { pool } = await pools(t)
  await migrate({ pool: pool as PoolLike })
  const sync = syncOn(pool as PoolLike)
  const load = async (): Promise<UserRecord> => await sync.load([request('user_a')], deadlineIn(t, 5000))[0]!
  t.match(await load(), { kind: 'active', tokensValidFromMs: 0, revokedSessions: [] })
  await pool.query("UPDATE users SET tokens_valid_from = 'infinity', revoked_sessions = '[\"sess_stolen\"]'")
  t.match(await load(), { tokensValidFromMs: Number.MAX_SAFE_INTEGER, revokedSessions: ['sess_stolen'] })
  await pool.query("UPDATE users SET tokens_valid_from = '-infinity', revoked_sessions = '{\"sess_old\": 1}'")
  t.match(await load(), { tokensValidFromMs: 0, revokedSessions: ['sess_old'] })
})

t.test('a user whom a trigger of the app refuses does not take the others of the batch along', async t => {
  const { pool } = await pools(t)
  await migrate({ pool: pool as PoolLike })
  await pool.query('CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.email LIKE \'%@blocked.example\' THEN RAISE \'not allowed\'; END IF; RETURN NEW; END $$')
  await pool.query('CREATE TRIGGER refuse BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION refuse()')
  const batch = ['a', 'b', 'c'].map(name => request(name, { email: `${name}@${name === 'b' ? 'blocked' : 'fine'}.example` }))
  const settled = await Promise.allSettled(syncOn(pool as PoolLike).load(batch, deadlineIn(t, 5000)))
  t.strictSame(settled.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
  t.match((settled[1] as PromiseRejectedResult).reason, { code: 'ORI_SYNC_ROW_REFUSED' })
})

t.test('the deadline of a load goes down to the pool with each statement, and that a second execution does no harm', async t => {
  const { pool, counted } = await pools(t)
  await migrate({ pool: pool as PoolLike })
  const sent: StatementConfig[] = []
  // Each is executed twice, as by a pool whose connection was cut before the answer came.
  const twice: PoolLike = {
    connect: watched(counted, statement => { sent.push(statement) }).connect,
    query: async statement => {
      sent.push(statement)
      await counted.query(statement)
      return await counted.query(statement)
    }
  }
  const provider = { now: 1_700_000_000_000 }
  const sync = syncOn(twice, { forceSyncAfterMs: 1, provider: providerOf(() => ({ kind: 'found', profile, version: provider.now })) })
  const deadline = deadlineIn(t, 5000)
  const load = async (): Promise<UserRecord> => await one(sync, request('user_a', {}, { force: true }), deadline)
  t.match(await load(), { kind: 'active', revision: 1 })
  provider.now++
  t.match(await load(), { kind: 'active', revision: 2 })
  await new Promise(resolve => { setTimeout(resolve, 5) })
  t.match(await load(), { kind: 'active', revision: 2, sync: 'skipped' })
  t.ok(sent.length >= 6 && sent.every(statement => statement.deadline === deadline && statement.idempotent === true))
  t.equal((await pool.query('SELECT count(*)::int AS n FROM users')).rows[0].n, 1)
})
