import { sessionKey, startDeadline, systemClock, type LoadRequest, type PoolLike } from '@orientor/session-contract/core'
import fc from 'fast-check'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../src/migrate.js'
import { isNews, observe, sessionEnded, userDeleted, type UserState } from '../src/observation.js'
import { resolveOptions } from '../src/options.js'
import type { SmartDatabaseSync } from '../src/smart-database-sync.js'
import type { UsersTableOptions } from '../src/users-table.js'
import { columnsOf, deadlineIn, issuer, one, poolOn, pools, profile, providerOf, recipe, request, storeOn, syncOn } from './fixtures/on-postgres.js'
import { profileUpdate } from '../src/user-update.js'

const base = 1_700_000_000_000
const provider = (version: { now: number }, firstName = 'Ada') => providerOf(() => ({ kind: 'found', profile: { ...profile, firstName }, version: version.now }))

/** A source over a table that is made and migrated as it is described. */
async function over (t: Test, made: string, table: UsersTableOptions, more: Parameters<typeof syncOn>[1] = {}): Promise<{ pool: pg.Pool, counted: PoolLike & { statements: string[] }, sync: SmartDatabaseSync, url: string }> {
  const { pool, counted, url } = await pools(t)
  if (made !== '') await pool.query(made)
  await migrate({ pool, ...table })
  return { pool, counted, url, sync: syncOn(counted, { store: storeOn(counted, undefined, table), ...more }) }
}

const from = (other: string, subject: string): LoadRequest => ({ ...request(subject), key: sessionKey(other, subject), issuer: other })

t.test('every column may have a name of its own, whatever is in it', async t => {
  const names = ['user id', 'E-Mail', 'Vor"name', "Nach'name", 'p%rofile', '$1', 'blocked by %s', 'order', 'select', 'Ünïcode', 'x;y', '{{users}}', 'a.b', '"', '\\']
  const fields = ['userId', 'email', 'firstName', 'lastName', 'profile', 'isActive', 'blocked', 'onboardingCompleted', 'lastSyncedAt', 'providerUpdatedAt', 'fingerprint', 'tokensValidFrom', 'revokedSessions', 'deletedAt', 'revision']
  const columns = Object.fromEntries(fields.map((field, place) => [field, names[place]!]))
  const table = { subject: 'the "sub"', issuer: 'iss %L', columns }
  for (const made of ['', 'CREATE TABLE users ("user id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "E-Mail" text NOT NULL UNIQUE, other int)']) {
    const version = { now: base }
    const { pool, sync } = await over(t, made, table, { provider: provider(version) })
    t.match(sync.watches, [{ issuer: 'iss %L', subject: 'the "sub"', revision: '\\', columns: names.filter(name => name !== 'select' && name !== '\\') }])
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { kind: 'active', sync: 'performed', user: { firstName: 'Ada', email: profile.email, profile: { plan: 'pro' } }, revision: 1 })
    version.now += 1000
    t.match(await one(sync, request('user_a', {}, { force: true }), deadlineIn(t, 5000)), { sync: 'performed', revision: 2 })
    await pool.query('UPDATE users SET "$1" = false')
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { kind: 'inactive', revision: 3 })
    await pool.query('UPDATE users SET "$1" = true, "{{users}}" = \'infinity\', "a.b" = \'{"s": 1}\'')
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { tokensValidFromMs: Number.MAX_SAFE_INTEGER, revokedSessions: ['s'] })
    await pool.query('UPDATE users SET "select" = now() - interval \'2 hours\'')
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { sync: 'skipped' })
    t.equal((await pool.query('SELECT FROM users WHERE "select" > now() - interval \'1 minute\'')).rowCount, 1, 'the note of the sync')
    await pool.query('UPDATE users SET """" = now()')
    t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { kind: 'deleted' })
    await pool.query('DELETE FROM users')
    await migrate({ pool, ...table, to: 0 })
    t.same(await columnsOf(pool, 'users'), made === '' ? [] : ['E-Mail text not null', 'other integer', 'user id uuid not null'])
  }
})

t.test('a constant issuer needs no column: rows that the app inserts are found, and users of others are unknown', async t => {
  const table = { issuer: { always: issuer }, subject: 'auth_id' }
  const { pool, counted, sync } = await over(t, "CREATE TABLE users (id bigserial PRIMARY KEY, auth_id text NOT NULL UNIQUE, email text); INSERT INTO users (auth_id, email) VALUES ('user_old', 'old@example.com')", table)
  t.notOk((await columnsOf(pool, 'users')).some(column => column.startsWith('issuer')))
  t.match(await one(sync, request('user_old'), deadlineIn(t, 5000)), { kind: 'active', user: { userId: '1', issuer, email: 'old@example.com' } }, 'no back-fill')
  await pool.query("INSERT INTO users (auth_id, email) VALUES ('user_app', 'app@example.com')")
  t.match(await one(sync, request('user_app'), deadlineIn(t, 5000)), { kind: 'active', user: { email: 'app@example.com' } })
  t.match(await one(sync, request('user_new', { email: 'new@example.com' }), deadlineIn(t, 5000)), { kind: 'active', sync: 'performed', user: { issuer, email: 'new@example.com' } })
  t.match(sync.watches, [{ issuer: { always: issuer }, subject: 'auth_id' }])

  counted.statements.length = 0
  t.same(await one(sync, from(`${issuer}/`, 'user_old'), deadlineIn(t, 5000)), { kind: 'unknown', revision: 0 })
  t.same(counted.statements, [])
  const mixed = await Promise.all(sync.load([from('https://other', 'user_old'), request('user_old'), from('https://other', 'user_none')], deadlineIn(t, 5000)))
  t.same(mixed.map(({ kind }) => kind), ['unknown', 'active', 'unknown'])
  t.equal((await pool.query('SELECT FROM users')).rowCount, 3)
  await pool.query("DELETE FROM users WHERE auth_id = 'user_new'; INSERT INTO user_tombstones (issuer, clerk_user_id) VALUES ($1, 'user_new')".replace('$1', `'${issuer}'`))
  t.match(await one(sync, request('user_new'), deadlineIn(t, 5000)), { kind: 'deleted', revision: 0, readMark: /read-committed/ })
  await migrate({ pool, ...table, to: 0 })
  t.same(await columnsOf(pool, 'users'), ['auth_id text not null', 'email text', 'id bigint not null'])
})

t.test('columns of the app\'s own come with the user, under one key, and are never written', async t => {
  const table = { extra: ['plan', 'roles', 'score', 'credit', 'since'] }
  const version = { now: base }
  const { pool, sync } = await over(t, "CREATE TABLE users (id bigserial PRIMARY KEY, plan text NOT NULL DEFAULT 'free', roles text[], score int, credit numeric(20, 4), since timestamptz)", table, { provider: provider(version) })
  const first = await one(sync, request('user_a'), deadlineIn(t, 5000))
  t.match(first, { kind: 'active', user: { firstName: 'Ada', profile: { plan: 'pro' }, extra: { plan: 'free', roles: null, score: null, credit: null, since: null } } })
  t.ok(first.kind === 'active' && Object.isFrozen(first.user.extra))
  await pool.query("UPDATE users SET plan = 'team', roles = '{admin,owner}', score = 7, credit = 12345678901234.5, since = '2024-03-18T17:49:59.431Z'")
  version.now += 1000
  const second = await one(sync, request('user_a', {}, { force: true }), deadlineIn(t, 5000))
  t.match(second, { revision: 3, sync: 'performed', user: { extra: { plan: 'team', roles: ['admin', 'owner'], score: 7, credit: '12345678901234.5000', since: '2024-03-18T17:49:59.431+00:00' } } })
  t.notOk(second.kind === 'active' && 'plan' in second.user)
  t.match((await pool.query('SELECT plan, score FROM users')).rows, [{ plan: 'team', score: 7 }])
  await pool.query('ALTER TABLE users ADD COLUMN later int')
  t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { user: { extra: { plan: 'team' } } })
})

t.test('what a new row needs is supplied, in the type of its column', async t => {
  let made = 0
  const supplied: UsersTableOptions = {
    insert: {
      id: () => `0ab5f1c2-6d1e-4f0e-9d5b-${String(++made).padStart(12, '0')}`,
      updatedAt: () => new Date(base),
      settings: () => ({ theme: 'dark' }),
      level: () => 3,
      beta: () => true,
      note: () => null,
      big: () => 9_007_199_254_740_993n,
      tags: () => '{a,b}'
    }
  }
  const { pool, sync } = await over(t, 'CREATE DOMAIN level AS smallint CHECK (VALUE > 0); CREATE TABLE users (id uuid PRIMARY KEY, "updatedAt" timestamp(3) NOT NULL, settings jsonb NOT NULL, level level NOT NULL, beta boolean NOT NULL, note text, big bigint NOT NULL, tags text[] NOT NULL)', supplied)
  const records = await Promise.all(sync.load(['a', 'b', 'c'].map(subject => request(subject)), deadlineIn(t, 5000)))
  t.same(records.map(record => record.kind === 'active' ? record.user.userId.slice(-1) : record.kind), ['1', '2', '3'])
  t.same((await pool.query('SELECT "updatedAt"::text, settings, level, beta, note, big::text, tags FROM users LIMIT 1')).rows, [
    { updatedAt: '2023-11-14 22:13:20', settings: { theme: 'dark' }, level: 3, beta: true, note: null, big: '9007199254740993', tags: ['a', 'b'] }
  ])
  await pool.query("UPDATE users SET level = 9 WHERE clerk_user_id = 'a'")
  await one(sync, request('a', { given_name: 'Ada', updated_at: base }), deadlineIn(t, 5000))
  t.match((await pool.query("SELECT first_name, level FROM users WHERE clerk_user_id = 'a'")).rows, [{ first_name: 'Ada', level: 9 }], 'for a new row only')

  for (const [supply, cause] of [[() => { throw new Error('no more ids') }, /no more ids/], [() => undefined, /undefined/], [() => () => {}, /function/], [() => Symbol('x'), /symbol/], [() => new Date(NaN), /Invalid/], [async () => 'late', /a promise: supply the value at once/], [async () => { throw new Error('unheard') }, /a promise/]] as const) {
    const failing = syncOn(pool, { store: storeOn(pool, undefined, { insert: { ...supplied.insert, id: supply } }) })
    const error = await one(failing, request('d'), deadlineIn(t, 5000)).then(() => null, (error: unknown) => error as Error & { code: string, cause: Error })
    t.equal(error?.code, 'ORI_SYNC_INSERT_REFUSED')
    t.match(error?.message, /could not supply the column "id"/)
    t.match(error?.cause.message, cause)
  }
  t.equal((await pool.query('SELECT FROM users')).rowCount, 3)
})

t.test('a supplier that fails spoils no other write, and users who have a row are written without it', async t => {
  let isOut = false
  const supplied: UsersTableOptions = { insert: { id: () => { if (isOut) throw new Error('no more ids'); return crypto.randomUUID() } } }
  const { pool, sync } = await over(t, 'CREATE TABLE users (id uuid PRIMARY KEY)', supplied)
  const dated = (subject: string, second: number): LoadRequest => request(subject, { given_name: 'Ada', updated_at: base / 1000 + second })
  await Promise.all(sync.load([dated('a', 0), dated('b', 0)], deadlineIn(t, 5000)))
  isOut = true
  const answers = await Promise.allSettled(sync.load([dated('a', 1), dated('new', 1), request('b')], deadlineIn(t, 5000)))
  t.match(answers, [
    { value: { kind: 'active', sync: 'performed', user: { firstName: 'Ada' } } },
    { status: 'rejected', reason: { code: 'ORI_SYNC_INSERT_REFUSED' } },
    { value: { kind: 'active', sync: 'skipped' } }
  ])
  isOut = false
  t.match(await one(sync, dated('a', 2), deadlineIn(t, 5000)), { sync: 'performed' })
  t.equal((await pool.query('SELECT FROM users')).rowCount, 2)
})

t.test('a column whose type changes fails no request, and loses no digit', async t => {
  const changes: ReadonlyArray<readonly [made: string, table: UsersTableOptions, change: string]> = [
    ['CREATE TABLE users (id bigserial PRIMARY KEY, profile_data json)', { createUsers: false }, 'ALTER TABLE users ALTER COLUMN profile_data TYPE jsonb'],
    ['CREATE TABLE users (id bigserial PRIMARY KEY, plan text)', { insert: { plan: () => '0ab5f1c2-6d1e-4f0e-9d5b-000000000001' } }, 'ALTER TABLE users ALTER COLUMN plan TYPE uuid USING plan::uuid'],
    ['CREATE TABLE users (id bigserial PRIMARY KEY, level text)', { insert: { level: () => 3 } }, 'ALTER TABLE users ALTER COLUMN level TYPE int USING level::int'],
    ['CREATE TABLE users (id bigserial PRIMARY KEY, level int)', { insert: { level: () => 3 } }, 'ALTER TABLE users ALTER COLUMN level TYPE boolean USING level <> 0; ALTER TABLE users ALTER COLUMN level TYPE text']
  ]
  for (const [made, table, change] of changes) {
    const { pool, sync } = await over(t, made, table)
    const subjects = Array.from({ length: 8 }, (_, n) => `user_${n}`)
    await pool.query('INSERT INTO users (issuer, clerk_user_id) SELECT $1, s FROM unnest($2::text[]) AS s', [issuer, subjects])
    const dated = (second: number): LoadRequest[] => subjects.map(subject => request(subject, { given_name: `N${second}`, updated_at: base / 1000 + second }))
    const all = async (second: number): Promise<string[]> => (await Promise.allSettled(dated(second).map(one => sync.load([one], deadlineIn(t, 5000))[0]!))).map(answer => answer.status === 'fulfilled' ? answer.value.kind : String(answer.reason))
    t.same(new Set(await all(0)), new Set(['active']), change)
    await pool.query(recipe.replace(/ALTER TABLE users ALTER COLUMN email.*;/, `${change};`))
    t.same(new Set(await all(1)), new Set(['active']), change)
    t.equal((await pool.query("SELECT FROM users WHERE first_name = 'N1'")).rowCount, 8)
  }

  const { pool, sync } = await over(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, credit int, score smallint)', { extra: ['credit', 'score'] })
  await pool.query('INSERT INTO users (issuer, clerk_user_id, credit, score) VALUES ($1, \'user_a\', 7, 7)', [issuer])
  t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { user: { extra: { credit: 7, score: 7 } } })
  await pool.query(recipe.replace(/ALTER TABLE users ALTER COLUMN email.*;/, 'ALTER TABLE users ALTER COLUMN credit TYPE bigint; ALTER TABLE users ALTER COLUMN score TYPE numeric;'))
  await pool.query("UPDATE users SET credit = 9007199254740993, score = '0.1234567890123456789'")
  t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { user: { extra: { credit: '9007199254740993', score: '0.1234567890123456789' } } })
})

t.test('where the app inserts, users without a row are unknown, and those with one are kept in step', async t => {
  const table = { createUsers: false, issuer: { always: issuer }, subject: 'auth_id' }
  const version = { now: base }
  let asked = 0
  const { pool, counted, sync, url } = await over(t, 'CREATE TABLE users (id uuid PRIMARY KEY, auth_id text UNIQUE, email text, tenant int NOT NULL, profile_data json)', table, {
    provider: providerOf(() => { asked++; return { kind: 'found', profile, version: version.now } })
  })
  t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { kind: 'unknown', revision: 0, readMark: /read-committed/ })
  t.equal(asked, 0)
  t.match(sync.stats.snapshot(), { attempts: 1, skips: { unknown: 1 } })
  await pool.query("INSERT INTO users (id, auth_id, tenant) SELECT gen_random_uuid(), 'user_' || n, 1 FROM unnest('{a,b,c}'::text[]) AS n")
  t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { kind: 'active', sync: 'performed', revision: 2, user: { firstName: 'Ada', profile: { plan: 'pro' } } })
  t.match(await one(sync, request('user_a'), deadlineIn(t, 5000)), { sync: 'skipped', revision: 2 })
  t.equal(sync.stats.snapshot().profileCreates, 0)
  t.equal((await pool.query('SELECT profile_data::text AS text FROM users WHERE auth_id = \'user_a\'')).rows[0].text, '{"plan":"pro"}')

  await pool.query("CREATE ROLE inserts_nothing LOGIN PASSWORD 'x'; GRANT SELECT, UPDATE ON users TO inserts_nothing; GRANT SELECT ON user_tombstones TO inserts_nothing")
  t.teardown(async () => { await pool.query('DROP OWNED BY inserts_nothing; DROP ROLE inserts_nothing') })
  const account = new URL(url)
  account.username = 'inserts_nothing'
  account.password = 'x'
  const modest = poolOn(t, account.href)
  const claims = syncOn(modest, { store: storeOn(modest, undefined, table) })
  t.match(await one(claims, request('user_b', { given_name: 'Bea', updated_at: base }), deadlineIn(t, 5000)), { sync: 'performed', user: { firstName: 'Bea' } })
  const store = storeOn(pool, undefined, table)
  const gone = syncOn(pool, {
    store: {
      watches: store.watches,
      maxWrites: store.maxWrites,
      write: (...call) => store.write(...call),
      touch: (...call) => store.touch(...call),
      ping: (...call) => store.ping(...call),
      mayCreate: () => false,
      markDeleted: (...call) => store.markDeleted(...call),
      deleteMarked: (...call) => store.deleteMarked(...call),
      tombstonesOf: (...call) => store.tombstonesOf(...call),
      keepDeadLetters: (...call) => store.keepDeadLetters(...call),
      find: async (...call) => {
        const found = await store.find(...call)
        await pool.query("DELETE FROM users WHERE auth_id = 'user_c'")
        return found
      }
    }
  })
  t.match(await one(gone, request('user_c', { given_name: 'Cid', updated_at: base }), deadlineIn(t, 5000)), { kind: 'unknown' }, 'whose row goes in between')
  t.ok(counted.statements.some(name => name.startsWith('smart_sync_update')))
})

t.test('an update without an insert decides as isNews() does, converges in any order, and does not deadlock', async t => {
  const table = { createUsers: false }
  const { pool } = await over(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, profile_data json)', table)
  await pool.query("INSERT INTO users (issuer, clerk_user_id) SELECT $1, 'user_' || n FROM generate_series(0, 399) AS n", [issuer])
  const store = storeOn(pool, undefined, table)
  const deadline = startDeadline(systemClock, 60_000)
  let users = 0
  const sighting = fc.record({ version: fc.constantFrom(null, base, base + 1, base + 1000), name: fc.constantFrom('A', 'B', null), blocked: fc.boolean(), complete: fc.boolean() })
  await fc.assert(fc.asyncProperty(fc.array(sighting, { minLength: 1, maxLength: 6 }), async sightings => {
    const subject = `user_${users++}`
    let expected: UserState = { deleted: false, version: null, fingerprint: null }
    for (const { version, name, blocked, complete } of sightings) {
      const observation = observe(issuer, subject, { ...profile, firstName: name, blocked }, version, complete)
      const news = isNews(expected, observation)
      const result = await store.write([profileUpdate(observation)], { syncedAtMs: null, creates: true }, deadline)
      if (result.kind !== 'done' || result.written.has(observation.key) !== news) return false
      if (news) expected = { deleted: false, version: observation.version, fingerprint: observation.fingerprint }
    }
    return true
  }), { numRuns: 100 })
  let version = base
  const runs = Array.from({ length: 30 }, async () => {
    const sync = syncOn(pool, { store: storeOn(pool, undefined, table), provider: providerOf(() => ({ kind: 'found', profile: { ...profile, email: null }, version: version++ })) })
    const subjects = fc.sample(fc.shuffledSubarray(Array.from({ length: 60 }, (_, n) => `user_${n + 300}`), { minLength: 30 }), 1)[0]!
    return await Promise.all(sync.load(subjects.map(subject => request(subject, {}, { force: true })), deadlineIn(t, 20_000)))
  })
  t.ok((await Promise.all(runs)).flat().every(record => record.kind === 'active' && record.sync !== 'failed'))
  t.equal((await pool.query('SELECT deadlocks::int AS n FROM pg_stat_database WHERE datname = current_database()')).rows[0].n, 0)
  deadline.release()
})

t.test('columns that are described otherwise later are added, and taken back with the others', async t => {
  const { pool } = await pools(t)
  await pool.query('CREATE TABLE users (id bigserial PRIMARY KEY, email text NOT NULL)')
  const before = await columnsOf(pool, 'users')
  await migrate({ pool })
  const renamed = { columns: { email: 'contact', firstName: 'given' } }
  t.same(await migrate({ pool, ...renamed }), [])
  t.match(await one(syncOn(pool, { store: storeOn(pool, undefined, renamed) }), request('user_a', { email: 'a@example.com', given_name: 'Ada' }), deadlineIn(t, 5000)), { user: { email: 'a@example.com', firstName: 'Ada' } })
  t.match((await pool.query('SELECT contact, given FROM users')).rows, [{ contact: 'a@example.com', given: 'Ada' }])
  await pool.query("UPDATE users SET email = ''")
  await migrate({ pool, ...renamed, to: 0 })
  t.same(await columnsOf(pool, 'users'), before)
})

t.test('descriptions that are malformed or contradict themselves are refused with the rule', async t => {
  const malformed: ReadonlyArray<readonly [object, RegExp]> = [
    [{ columns: { e_mail: 'email' } }, /columns: option "e_mail" is not known\. The options are: userId, email, firstName/],
    [{ columns: { email: '' } }, /columns: option "email" must be the name of a column, at most 63 bytes/],
    [{ columns: { email: 'ü'.repeat(32) } }, /at most 63 bytes/],
    [{ columns: [] }, /option "columns" must be an object with any of userId, email/],
    [{ subject: 'sub\0' }, /option "subject" must be the name of a column/],
    [{ issuer: { always: '' } }, /option "issuer" must be the name of a column, at most 63 bytes, or \{ always: "https:/],
    [{ issuer: { always: issuer, sometimes: 1 } }, /option "issuer" must be/],
    [{ columns: { email: 'first_name' } }, /the column "first_name" is named twice\. The rule: one column holds one thing/],
    [{ subject: 'email' }, /the column "email" is named twice/],
    [{ columns: { userId: 'email' } }, /the column "email" is named twice/],
    [{ extra: ['plan', 'plan'] }, /the column "plan" is named twice/],
    [{ extra: 'plan' }, /option "extra" must be a list/],
    [{ insert: { id: 7 } }, /option "insert" must be an object of functions, by the names of columns/],
    [{ insert: [] }, /option "insert"/],
    [{ insert: { email: () => 'x' } }, /option "insert" names "email", which smart-sync writes itself/],
    [{ insert: { issuer: () => 'x' } }, /option "insert" names "issuer"/],
    [{ createUsers: false, insert: { id: () => 1 } }, /"insert" and "createUsers: false" exclude each other/],
    [{ createUsers: 'no' }, /option "createUsers" must be true or false/],
    [{ columnLists: 1 }, /option "columnLists"/]
  ]
  for (const [options, message] of malformed) {
    t.throws(() => resolveOptions(options), { code: 'ORI_CONTRACT_INVALID_OPTION', message }, JSON.stringify(options))
    await t.rejects(async () => migrate({ pool: {} as PoolLike, ...options }), { code: 'ORI_CONTRACT_INVALID_OPTION', message })
  }
  t.doesNotThrow(() => resolveOptions({ extra: ['email'], columns: { userId: 'sub' }, subject: 'sub', insert: { is_active: () => false } }))
})

t.test('a table with partitions is written like any other', async t => {
  const { pool, sync } = await over(t, `CREATE TABLE users (
    id bigint GENERATED BY DEFAULT AS IDENTITY, issuer text, clerk_user_id text, PRIMARY KEY (issuer, clerk_user_id)
  ) PARTITION BY HASH (clerk_user_id);
  CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 0);
  CREATE TABLE users_1 PARTITION OF users FOR VALUES WITH (MODULUS 2, REMAINDER 1)`, {})
  const requests = (claims: object): LoadRequest[] => ['a', 'b', 'c', 'd'].map(subject => request(subject, { ...claims }))
  t.match(await Promise.all(sync.load(requests({ given_name: 'Ada' }), deadlineIn(t, 5000))), Array(4).fill({ sync: 'performed' }))
  const later = requests({ given_name: 'Bea', updated_at: base })
  t.match(await Promise.all(sync.load(later, deadlineIn(t, 5000))), Array(4).fill({ sync: 'performed', user: { firstName: 'Bea' } }))
  t.equal(sync.stats.snapshot().profileCreates, 4)
  const soon = Date.now() + 60_000
  await sync.apply([sessionEnded(issuer, 'a', 's', soon), userDeleted(issuer, 'b')], { deadline: deadlineIn(t, 5000) })
  t.match((await pool.query('SELECT revoked_sessions, deleted_at FROM users ORDER BY clerk_user_id LIMIT 2')).rows, [{ revoked_sessions: { s: soon } }, { deleted_at: Date }])
})
