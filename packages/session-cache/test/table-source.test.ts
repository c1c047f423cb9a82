import { readFileSync } from 'node:fs'
import { createIdentity, databaseFailureOf, readMarkSql, requireSessionUser, sessionHub, sessionKey, SourceUnavailable, startDeadline, systemClock, type LoadRequest, type PoolLike, type StatementConfig, type UserRecord, type UserSource } from '@orientor/session-contract'
import { postgresMajor, startTcpProxy, testDatabase, testServer, until } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import { fastify, type FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import sessionCache from '../src/index.js'
import { postgresBus, tableSource, type TableSourceOptions } from '../src/postgres.js'
import { patient } from './fixtures/watched-database.js'

const issuer = 'https://id.example.com'
const options: TableSourceOptions = { table: 'users', subject: 'auth_id', issuer: { always: issuer }, columns: { userId: 'id', email: 'email' } }

/** A database, and a pool that counts what it is sent. */
async function database (t: Test, made: string = ''): Promise<{ url: string, pool: pg.Pool, counted: PoolLike & { sent: StatementConfig[] }, sql: (text: string, values?: unknown[]) => Promise<pg.QueryResult> }> {
  const { url } = await testDatabase(t)
  const pool = poolOn(t, url)
  if (made !== '') await pool.query(made)
  const sent: StatementConfig[] = []
  const counted = { sent, query: (statement: StatementConfig) => { sent.push(statement); return (pool as PoolLike).query(statement) }, connect: () => (pool as PoolLike).connect() }
  return { url, pool, counted, sql: (text, values) => pool.query(text, values) }
}

function poolOn (t: Test, connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 5 })
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  return pool
}

const request = (subject: string, from: string = issuer): LoadRequest => ({ key: sessionKey(from, subject), issuer: from, subject, identity: createIdentity({ issuer: from, subject }) })

/** What a source says of users, by subject. */
async function load (source: UserSource, ...subjects: string[]): Promise<UserRecord[]> {
  const deadline = startDeadline(systemClock, 5000)
  try {
    return await Promise.all(source.load(subjects.map(subject => request(subject)), deadline))
  } finally {
    deadline.release()
  }
}

/** A pool of a role that only has what it is given. */
async function poolOfRole (t: Test, { url, sql }: { url: string, sql: (text: string) => Promise<unknown> }, role: string, given: string): Promise<pg.Pool> {
  await sql(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'; ${given}`)
  t.teardown(async () => { await sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`) })
  const account = new URL(url)
  account.username = account.password = role
  return poolOn(t, account.href)
}

const kindsOf = async (source: UserSource, ...subjects: string[]): Promise<string[]> => (await load(source, ...subjects)).map(({ kind }) => kind)

/** An app behind a gateway that names the user in a header. */
function appOf (t: Test, register: (app: FastifyInstance) => unknown): { app: FastifyInstance, log: Array<{ level: number, msg: string }> } {
  const log: Array<{ level: number, msg: string }> = []
  const app: FastifyInstance = fastify({ logger: { stream: { write: (line: string) => { log.push(JSON.parse(line) as { level: number, msg: string }) } } } })
  t.teardown(() => app.close())
  sessionHub(app).fill('identify', 'gateway', ({ headers }) => createIdentity({ issuer: String(headers['x-issuer'] ?? issuer), subject: String(headers['x-user']) }))
  register(app)
  app.get('/me', { config: { session: { required: true } } }, request => requireSessionUser(request))
  return { app, log }
}

const decorates = (pool: unknown): ((app: FastifyInstance) => unknown) => app => app.register(Object.assign(async (scope: FastifyInstance) => { scope.decorate('pg' as never, { pool } as never) }, { [Symbol.for('skip-override')]: true }))
const usersSql = "CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), auth_id text NOT NULL UNIQUE, email text NOT NULL, plan text NOT NULL DEFAULT 'free', role text); INSERT INTO users (auth_id, email, plan) SELECT 'user_' || n, n || '@example.com', 'pro' FROM generate_series(1, 1000) AS n"

t.test('a table of one\'s own is a source in five lines, with the pool of the scope, whichever is registered first', async t => {
  for (const order of [0, 1]) {
    const { pool, sql } = await database(t, usersSql)
    const made = async (): Promise<number> => (await sql("SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'orientor_outbox%'")).rowCount!
    const before = await made()
    const cache = (app: FastifyInstance): unknown => app.register(sessionCache, {
      source: tableSource({ table: 'users', subject: 'auth_id', issuer: { always: issuer }, columns: { userId: 'id', email: 'email', isActive: { always: true } }, extra: ['plan', 'role'] }),
      bus: postgresBus({ ...patient })
    })
    const { app, log } = appOf(t, app => { for (const register of order === 0 ? [cache, decorates(pool)] : [decorates(pool), cache]) register(app) })
    await app.ready()
    t.ok(log.some(({ msg }) => msg.includes('bus=postgres(trusted)')), 'and says what has to be watched')
    const me = async (subject: string): Promise<{ statusCode: number, json: () => Record<string, unknown> }> => await app.inject({ url: '/me', headers: { 'x-user': subject } })
    const { rows: [{ id }] } = await sql("SELECT id FROM users WHERE auth_id = 'user_7'")
    t.strictSame((await me('user_7')).json(), {
      userId: id,
      issuer,
      subject: 'user_7',
      email: '7@example.com',
      firstName: null,
      lastName: null,
      isActive: true,
      onboardingCompleted: true,
      providerUpdatedAt: null,
      profile: null,
      extra: { plan: 'pro', role: null }
    })
    t.equal((await me('user_0')).statusCode, 401)
    t.notOk(JSON.stringify(log).includes('read-committed'), 'where it was read is for the cache alone')
    await sql("UPDATE users SET role = 'admin' WHERE auth_id = 'user_7'")
    await until('the change is seen', async () => (await me('user_7')).json()['extra'] !== undefined && JSON.stringify((await me('user_7')).json()['extra']) === '{"plan":"pro","role":"admin"}')
    t.equal(await made(), before, 'and nothing was made but the outbox')
  }
})

t.test('the first lines that the README shows do it', async t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const shown = /```\w+\n([\s\S]*?)```/.exec(readme)![1]!
  t.equal(shown.trim().split('\n').length, 5)
  const { pool } = await database(t, usersSql)
  const { app } = appOf(t, decorates(pool))
  const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => (...given: unknown[]) => Promise<void>
  await new AsyncFunction('app', 'sessionCache', 'tableSource', shown)(app, sessionCache, tableSource)
  const reply = await app.inject({ url: '/me', headers: { 'x-user': 'user_1' } })
  t.match(reply.json(), { email: '1@example.com', isActive: true, extra: { plan: 'pro', role: null } })
})

t.test('a table without a cache in front is asked by the hub', async t => {
  const { pool, counted } = await database(t, usersSql)
  const { app } = appOf(t, app => {
    sessionHub(app).fill('source', 'my table', tableSource({ ...options, extra: ['plan'] }))
    decorates(counted)(app)
  })
  t.match((await app.inject({ url: '/me', headers: { 'x-user': 'user_1' } })).json(), { subject: 'user_1', extra: { plan: 'pro' } })
  t.ok(counted.sent.length > 0)
  expectTypeOf<pg.Pool>().toExtend<PoolLike>()
  const own = tableSource({ ...options, pool })
  t.same(await kindsOf(own, 'user_1'), ['active'], 'and without Fastify by whoever has it')
  own.attach!({ pool: null, log: { error: () => {}, warn: () => {}, info: () => {} } })
})

t.test('without a pool the start is refused by name, and so is a load', async t => {
  const { app } = appOf(t, app => app.register(sessionCache, { source: tableSource(options) }))
  await t.rejects(async () => { await app.ready() }, { code: 'ORI_CACHE_NO_POOL', message: /tableSource\(\) has no database.*tableSource\(\{ pool: new pg\.Pool/ })
  await t.rejects(load(tableSource(options), 'user_1'), { code: 'ORI_CACHE_NO_POOL' })
})

t.test('a batch is one prepared statement, with the deadline of the load', async t => {
  const { counted } = await database(t, usersSql)
  const source = tableSource({ ...options, pool: counted })
  await source.ready!()
  counted.sent.length = 0
  const deadline = startDeadline(systemClock, 5000)
  const batch = Array.from({ length: 500 }, (_, n) => request(`user_${n * 3}`))
  const records = await Promise.all(source.load(batch, deadline))
  t.equal(records.filter(({ kind }) => kind === 'active').length, 333)
  t.ok(records.every((record, n) => record.kind !== 'active' || record.user.subject === batch[n]!.subject), 'in the order of the requests')
  await Promise.all(source.load(batch, deadline))
  deadline.release()
  t.equal(counted.sent.length, 2)
  const [{ name, text, values, deadline: sent }] = counted.sent as [StatementConfig]
  t.match(name, /^orientor_table_[0-9a-f]{12}$/)
  t.match(text, /= ANY \(\$1/)
  t.same(values, [batch.map(({ subject }) => subject)])
  t.equal(sent, deadline)
  await t.rejects(async () => { await source.load([request('user_1')], { ...deadline, atMs: 0 })[0] }, SourceUnavailable)
  t.equal(counted.sent.length, 2)
})

t.test('the subject is uniquely indexed, or the start is refused with what to run', async t => {
  const { sql, pool } = await database(t)
  const columns = 'id int PRIMARY KEY, auth_id text, email text, iss text, tenant int'
  const withIssuer: TableSourceOptions = { ...options, issuer: 'iss' }
  const unique: ReadonlyArray<readonly [string, TableSourceOptions]> = [
    ['ALTER TABLE users ADD UNIQUE (auth_id)', options],
    ['ALTER TABLE users ADD UNIQUE (auth_id) DEFERRABLE INITIALLY DEFERRED', options],
    ['CREATE UNIQUE INDEX ON users (auth_id) INCLUDE (email)', options],
    ['ALTER TABLE users DROP CONSTRAINT users_pkey, ADD PRIMARY KEY (auth_id)', options],
    ['CREATE UNIQUE INDEX ON users (auth_id)', withIssuer],
    ['CREATE UNIQUE INDEX ON users (iss, auth_id)', withIssuer],
    ['CREATE UNIQUE INDEX ON users (auth_id, iss)', withIssuer]
  ]
  const notUnique: ReadonlyArray<readonly [string, TableSourceOptions]> = [
    ['CREATE INDEX ON users (auth_id)', options],
    ['CREATE UNIQUE INDEX ON users (auth_id) WHERE email IS NOT NULL', options],
    ['CREATE UNIQUE INDEX ON users (lower(auth_id))', options],
    ['CREATE UNIQUE INDEX ON users (tenant, auth_id)', options],
    ['CREATE UNIQUE INDEX ON users (auth_id, iss)', options],
    ['CREATE UNIQUE INDEX ON users (auth_id COLLATE "POSIX")', options],
    ['CREATE UNIQUE INDEX ON users (iss)', withIssuer]
  ]
  for (const [made, described] of unique) {
    await sql(`DROP TABLE IF EXISTS users; CREATE TABLE users (${columns}); ${made}`)
    await tableSource({ ...described, pool }).ready!()
    t.pass(made)
  }
  for (const [made, described] of notUnique) {
    await sql(`DROP TABLE IF EXISTS users; CREATE TABLE users (${columns}); ${made}`)
    const keys = described === options ? '"auth_id"' : '"auth_id", "iss"'
    await t.rejects(tableSource({ ...described, pool }).ready!(), { code: 'ORI_CONTRACT_INVALID_OPTION', message: `@orientor/session-cache/postgres: tableSource(): option "subject": no unique index of "users" covers all rows by ${keys}. The rule: one row is one user. Run CREATE UNIQUE INDEX CONCURRENTLY ON "users" (${keys}).` }, made)
  }
})

t.test('a user is whom the row names byte by byte, whatever the database takes for equal', async t => {
  const { sql, pool } = await database(t, "CREATE EXTENSION citext; CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE DOMAIN handle AS citext")
  const types: ReadonlyArray<readonly [string, string, readonly string[]]> = [
    ['citext', 'AbC', ['abc', 'ABC']],
    ['handle', 'AbC', ['abc', 'ABC']],
    ['text COLLATE blind', 'AbC', ['abc', 'ABC']],
    ['char(6)', 'AbC', ['AbC ', 'abc']],
    ['varchar(6)', 'AbC', ['abc', 'AbC ', 'AbCdefghi']],
    ['uuid', '0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f60', ['0AB5F1C2-6D1E-4F0E-9D5B-1B2C3D4E5F60', '{0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f60}', '0ab5f1c26d1e4f0e9d5b1b2c3d4e5f60']],
    ['bigint', '70', ['070', '+70', ' 70', '70.0', '0x46', '7_0']]
  ]
  for (const [type, exact, inexact] of types) {
    for (const withIssuer of [false, true]) {
      await sql(`DROP TABLE IF EXISTS users; CREATE TABLE users (id int, email text, auth_id ${type}, iss text COLLATE blind, UNIQUE (auth_id))`)
      await sql('INSERT INTO users VALUES (1, NULL, $1, $2)', [exact, issuer])
      const source = tableSource({ ...options, pool, ...withIssuer && { issuer: 'iss' } })
      t.same(await kindsOf(source, exact, ...inexact), ['active', ...inexact.map(() => 'unknown')], `${type}: ${inexact.join()}`)
      if (withIssuer) t.same((await Promise.all(source.load([request(exact, issuer.toUpperCase())], startDeadline(systemClock, 5000)))).map(({ kind }) => kind), ['unknown'])
    }
  }
})

t.test('a text that the column cannot hold is an unknown user, and fails nobody else of the batch', async t => {
  const { sql, counted } = await database(t)
  const junk = ['', 'not-a-uuid', '-1', '1e3', '99999999999999999999', "'; DROP TABLE users", '💣', 'x'.repeat(255)].filter(text => text !== '')
  const ids: Readonly<Record<string, readonly [held: string, beyond: string]>> = {
    uuid: ['0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f60', '0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f6'],
    smallint: ['32767', '9223372036854775808'],
    integer: ['-2147483648', '-9223372036854775809'],
    bigint: ['9223372036854775807', '9223372036854775808']
  }
  for (const [type, [held, beyond]] of Object.entries(ids)) {
    await sql(`DROP TABLE IF EXISTS users; CREATE TABLE users (id int, email text, auth_id ${type} UNIQUE)`)
    await sql('INSERT INTO users VALUES (1, NULL, $1)', [held])
    const source = tableSource({ ...options, pool: counted })
    await source.ready!()
    counted.sent.length = 0
    t.same(await kindsOf(source, beyond, ...junk, held), [beyond, ...junk].map(() => 'unknown').concat('active'), type)
    t.same(await kindsOf(source, beyond, ...junk.filter(text => text !== '-1')), [beyond, ...junk.slice(1)].map(() => 'unknown'))
    t.equal(counted.sent.length, 1, 'and is not asked for')
    if (type !== 'uuid') t.same(await kindsOf(source, '32768', '2147483648', '-9223372036854775808', held), ['unknown', 'unknown', 'unknown', 'active'])
  }

  const { url, server } = await testDatabase(t)
  t.teardown(() => server.dropDatabase('narrow'))
  await sql("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
  const narrow = poolOn(t, url.replace(/\/[^/]*$/, '/narrow'))
  await narrow.query("CREATE TABLE users (id int, email text, auth_id text UNIQUE); INSERT INTO users VALUES (1, NULL, 'ü'), (2, NULL, 'a')")
  const source = tableSource({ ...options, pool: narrow })
  t.same(await kindsOf(source, 'a', '💣', 'ü', 'ł', 'b'), ['active', 'unknown', 'active', 'unknown', 'unknown'], 'letters that the encoding of the database lacks')
  t.same(await kindsOf(source, 'ł'), ['unknown'])
})

t.test('columns are read as they are described, and what is not described is null or a constant', async t => {
  const { sql, pool } = await database(t, `CREATE TABLE "People" ("the id" bigint PRIMARY KEY, sub varchar(40) UNIQUE, mail text, "first" text, "last" text, active boolean, done boolean,
    data json, changed timestamp, since timestamptz, gone date, version int8);
    INSERT INTO "People" VALUES (9007199254740993, 'all', 'a@b.c', 'A', 'B', true, true, '{"x": 1}', '2024-03-18T17:49:59.4319', '2024-01-01T00:00:00+00', NULL, 7); INSERT INTO "People" VALUES (2, 'none')`)
  const columns = { userId: 'the id', email: 'mail', firstName: 'first', lastName: 'last', isActive: 'active', onboardingCompleted: 'done', profile: 'data', providerUpdatedAt: 'changed', tokensValidFrom: 'since', deletedAt: 'gone', revision: 'version' }
  const source = tableSource({ ...options, table: 'People', subject: 'sub', columns, pool })
  t.same(source.watches, [{ table: 'People', issuer: { always: issuer }, subject: 'sub', revision: 'version', columns: ['the id', 'mail', 'first', 'last', 'active', 'done', 'data', 'changed', 'since', 'gone'], harmlessTriggers: [] }])
  await sql("ALTER ROLE postgres SET timezone = 'America/New_York'")
  t.teardown(() => sql('ALTER ROLE postgres RESET timezone'))
  const { rows: [{ readMark }] } = await sql(`SELECT ${readMarkSql('"People"')} AS "readMark"`)
  const all = {
    kind: 'active',
    user: {
      userId: '9007199254740993',
      issuer,
      subject: 'all',
      email: 'a@b.c',
      firstName: 'A',
      lastName: 'B',
      isActive: true,
      onboardingCompleted: true,
      providerUpdatedAt: 1_710_784_199_431,
      profile: { x: 1 },
      extra: {}
    },
    revision: 7,
    sync: 'skipped',
    lastSyncedAtMs: null,
    tokensValidFromMs: 1_704_067_200_000,
    revokedSessions: [],
    readMark
  }
  const nothing = { userId: '2', subject: 'none', email: null, firstName: null, lastName: null, onboardingCompleted: false, providerUpdatedAt: null, profile: null }
  const [described, empty] = await load(source, 'all', 'none') as [UserRecord, UserRecord]
  t.strictSame(described, all)
  t.match(empty, { kind: 'active', user: nothing, revision: 0, tokensValidFromMs: 0 })
  t.ok(described.kind === 'active' && Object.isFrozen(described.user) && Object.isFrozen(described.user.profile))
  t.strictSame((await load(tableSource({ ...options, table: 'People', subject: 'sub', columns: { userId: 'sub', onboardingCompleted: { always: false } }, pool }), 'all'))[0], {
    ...all, user: { ...all.user, userId: 'all', email: null, firstName: null, lastName: null, onboardingCompleted: false, providerUpdatedAt: null, profile: null }, revision: 0, tokensValidFromMs: 0
  })
  const after = async (change: string): Promise<UserRecord> => {
    await sql(`UPDATE "People" SET ${change} WHERE sub = 'all'`)
    return (await load(source, 'all'))[0]!
  }
  t.match(await after("since = 'infinity', data = '[1]'"), { tokensValidFromMs: Number.MAX_SAFE_INTEGER, user: { profile: null } })
  for (const [version, revision] of [['9007199254740992', 0], ['-5', 0], ['NULL', 0], ['9007199254740991', Number.MAX_SAFE_INTEGER]] as const) t.match(await after(`version = ${version}`), { kind: 'active', revision })
  t.strictSame(await after('active = false, version = 8'), { kind: 'inactive', revision: 8, readMark })
  t.match(await after('active = NULL'), { kind: 'active' })
  t.strictSame(await after('gone = now()'), { kind: 'deleted', revision: 8, readMark })
})

t.test('columns of one\'s own stand under one key, as they are, frozen', async t => {
  const { pool } = await database(t, `CREATE TYPE tier AS ENUM ('free', 'pro'); CREATE DOMAIN count AS bigint;
    CREATE TABLE users (id int, auth_id text UNIQUE, email text, "__proto__" text, "Odd ""name" int, t tier, n int, f float8, big bigint, bigs bigint[], exacts numeric[], counted count, exact numeric, yes boolean, roles text[], j json, jb jsonb, at timestamptz, nothing int);
    INSERT INTO users VALUES (1, 'a', NULL, 'proto', 5, 'pro', 42, 1.5, 9007199254740993, '{9007199254740993,NULL}', '{{1.10},{2}}', 9007199254740993, 1.10, true, '{admin,"a,b"}', '{"nul": "\\u0000", "half": "\\ud800", "huge": 1e200000}', '{"a": [1, {"b": null}]}', '2024-03-18T17:49:59.431Z', NULL)`)
  const extra = ['__proto__', 'Odd "name', 't', 'n', 'f', 'big', 'bigs', 'exacts', 'counted', 'exact', 'yes', 'roles', 'j', 'jb', 'at', 'nothing', 'email']
  const [record] = await load(tableSource({ ...options, columns: { userId: 'id' }, extra, pool }), 'a')
  if (record?.kind !== 'active') throw new Error('not found')
  t.strictSame(JSON.parse(JSON.stringify(record.user.extra)), JSON.parse(JSON.stringify({
    ['__proto__']: 'proto',
    'Odd "name': 5,
    t: 'pro',
    n: 42,
    f: 1.5,
    big: '9007199254740993',
    bigs: ['9007199254740993', null],
    exacts: [['1.10'], ['2']],
    counted: '9007199254740993',
    exact: '1.10',
    yes: true,
    roles: ['admin', 'a,b'],
    j: { nul: '\0', half: '\ud800', huge: Infinity },
    jb: { a: [1, { b: null }] },
    at: '2024-03-18T17:49:59.431+00:00',
    nothing: null,
    email: null
  })))
  t.same(Object.keys(record.user.extra!), extra)
  t.equal(record.user.profile, null)
  t.notOk('t' in record.user)
  const { roles, jb } = record.user.extra as { roles: unknown[], jb: { a: unknown[] } }
  t.ok([record.user.extra, roles, jb, jb.a, jb.a[1]].every(value => Object.isFrozen(value)))
})

t.test('what does not fit the table is refused at the start, with what there is', async t => {
  const { sql, pool } = await database(t, `${usersSql}; CREATE VIEW seen AS SELECT * FROM users; CREATE SCHEMA apart; CREATE TABLE apart.others (id int, sub text UNIQUE)`)
  await sql('ALTER TABLE users ADD COLUMN joined timestamptz')
  const wrong: ReadonlyArray<readonly [object, string]> = [
    [{ columns: { userId: 'id', email: 'emial' } }, 'option "columns.email": the table "users" has no column "emial". Its columns are id, auth_id, email, plan, role, joined.'],
    [{ extra: ['plan', 'rolle', 'tier'] }, 'option "extra": the table "users" has no column "rolle", "tier". Its columns are'],
    [{ subject: 'authId' }, 'option "subject": the table "users" has no column "authId".'],
    [{ issuer: 'iss' }, 'option "issuer": the table "users" has no column "iss".'],
    [{ subject: 'AUTH_ID' }, 'no column "AUTH_ID"'],
    [{ table: 'Users' }, 'option "table": the table "Users" does not exist in the schemas of the search path. Give "schema" where it is in another.'],
    [{ table: 'others' }, 'the table "others" does not exist in the schemas'],
    [{ table: 'apart.others' }, 'the table "apart.others" does not exist. For a table of another schema write schema: "apart", table: "others".'],
    [{ schema: 'apart' }, 'the table "apart"."users" does not exist.'],
    [{ table: 'seen' }, 'option "table": "seen" is not a table'],
    [{ columns: { userId: 'id', isActive: 'plan' } }, 'option "columns.isActive": the column "plan" has type text. The rule: it has one of the types bool, or a domain over one.'],
    [{ columns: { userId: 'id', revision: 'joined' } }, 'has type timestamp with time zone. The rule: it has one of the types int2, int4, int8'],
    [{ columns: { userId: 'id', tokensValidFrom: 'id' } }, 'one of the types timestamptz, timestamp'],
    [{ columns: { userId: 'id', profile: 'email' } }, 'one of the types jsonb, json'],
    [{ subject: 'joined' }, 'option "subject": the column "joined" has type timestamp with time zone'],
    [{ issuer: 'id' }, 'option "issuer": the column "id" has type uuid']
  ]
  for (const [part, message] of wrong) {
    const { app } = appOf(t, app => app.register(sessionCache, { source: tableSource({ ...options, pool, ...part }) }))
    const error = await app.ready().then(() => null, (error: unknown) => error as Error & { code: string })
    t.equal(error?.code, 'ORI_CONTRACT_INVALID_OPTION')
    t.ok(error?.message.startsWith('@orientor/session-cache/postgres: tableSource(): ') && error.message.includes(message), String(error))
  }
  await tableSource({ ...options, schema: 'apart', table: 'others', subject: 'sub', columns: { userId: 'id' }, pool }).ready!()
})

t.test('malformed options are refused with the rule', async t => {
  const malformed: ReadonlyArray<readonly [object, RegExp]> = [
    [{ tabel: 'users' }, /option "tabel" is not known\. The options are: schema, table, subject, issuer, columns, extra/],
    [{ table: undefined }, /option "table" is missing; it must be the name of a table, at most 63 bytes/],
    [{ table: 'x'.repeat(64) }, /option "table" must be the name of a table/],
    [{ issuer: { always: 'has space' } }, /option "issuer" must be the name of a column, at most 63 bytes, or \{ always: "https:/],
    [{ issuer: { always: issuer, also: 1 } }, /option "issuer" must be/],
    [{ columns: undefined }, /option "columns" is missing; it must be an object \{ userId, email\?, firstName\?/],
    [{ columns: [] }, /option "columns" must be an object/],
    [{ columns: { email: 'email' } }, /columns: option "userId" is missing/],
    [{ columns: { userId: 'id', plan: 'plan' } }, /columns: option "plan" is not known/],
    [{ columns: { userId: 'id', isActive: { always: false } } }, /columns: option "isActive" must be the name of a column, at most 63 bytes, or \{ always: true \}/],
    [{ columns: { userId: 'id', email: '' } }, /columns: option "email" must be/],
    [{ extra: 'plan' }, /option "extra" must be a list/],
    [{ extra: ['plan', 'plan'] }, /option "extra" must name each column once; received "plan" twice/],
    [{ pool: {} }, /option "pool" must be a pg pool/],
    [{ harmlessTriggers: [5] }, /option "harmlessTriggers"/]
  ]
  for (const [part, message] of malformed) t.throws(() => tableSource({ ...options, ...part }), { code: 'ORI_CONTRACT_INVALID_OPTION', message })
  // @ts-expect-error -- a subject is named
  t.throws(() => tableSource({ table: 'users', issuer: { always: issuer }, columns: { userId: 'id' } }))
})

t.test('users of another issuer are unknown without being asked for, which is warned about once', async t => {
  const { counted } = await database(t, usersSql)
  const { app, log } = appOf(t, app => app.register(sessionCache, { source: tableSource({ ...options, pool: counted }) }))
  await app.ready()
  counted.sent.length = 0
  for (const subject of ['user_1', 'user_2']) t.equal((await app.inject({ url: '/me', headers: { 'x-user': subject, 'x-issuer': `${issuer}/` } })).statusCode, 401)
  t.equal(counted.sent.length, 0)
  t.match(log.filter(({ level }) => level === 40), [{ issuer: `${issuer}/`, expected: issuer, table: 'users', msg: /Compare the option "issuer" with the iss/ }])
  t.equal((await app.inject({ url: '/me', headers: { 'x-user': 'user_1' } })).statusCode, 200)
})

t.test('a table that the role may not read is told at the start, with what to do, and known users are served until it may', async t => {
  const { url, sql } = await database(t, usersSql)
  await sql("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT (id, auth_id) ON users TO reader")
  t.teardown(async () => { await sql('DROP OWNED BY reader; DROP ROLE reader') })
  const account = new URL(url)
  account.username = account.password = 'reader'
  const source = tableSource({ ...options, pool: poolOn(t, account.href) })
  const { app, log } = appOf(t, app => app.register(sessionCache, { source, expireAfterMs: 50 }))
  await app.ready()
  const errors = (): string[] => log.filter(({ level }) => level === 50).map(({ msg }) => msg)
  t.match(errors(), [/^tableSource\(\): PostgreSQL refuses to read users: the role lacks a privilege \(42501\)\..* GRANT/])
  const me = async (): Promise<string> => {
    const { statusCode, headers } = await app.inject({ url: '/me', headers: { 'x-user': 'user_1' } })
    return headers['x-session-stale'] === undefined ? String(statusCode) : `${statusCode}, stale`
  }
  t.equal(await me(), '503')
  await sql('GRANT SELECT (email) ON users TO reader')
  t.equal(await me(), '200')
  t.ok(log.some(({ msg }) => msg === 'tableSource(): PostgreSQL does not refuse to read users any more'))
  await sql('REVOKE ALL ON users FROM reader')
  await new Promise(resolve => { setTimeout(resolve, 60) })
  t.equal(await me(), '200, stale')
  await sql('ALTER TABLE users RENAME TO gone')
  t.equal(await me(), '200, stale', 'nor one that is gone for a while')
})

t.test('where the issuer is a column, both name the user', async t => {
  const { pool } = await database(t, "CREATE TABLE users (id int, auth_id text, iss text, email text, UNIQUE (iss, auth_id)); INSERT INTO users VALUES (1, 'a', 'https://one', NULL), (2, 'a', 'https://two', NULL), (3, 'b', 'https://one', NULL), (4, 'c', NULL, NULL)")
  const source = tableSource({ ...options, issuer: 'iss', pool })
  const deadline = startDeadline(systemClock, 5000)
  const batch = [['a', 'https://two'], ['b', 'https://two'], ['a', 'https://one'], ['c', 'https://one'], ['a', 'https://three']].map(([subject, from]) => request(subject!, from))
  const records = await Promise.all(source.load(batch, deadline))
  deadline.release()
  t.same(records.map(record => record.kind === 'active' ? record.user.userId : record.kind), ['2', 'unknown', '1', 'unknown', 'unknown'])
  t.match(source.watches, [{ issuer: 'iss', columns: ['id', 'email'] }])
})

t.test('a table that changes while it is read is looked at anew', async t => {
  const { sql, pool } = await database(t, "CREATE TABLE users (id int, auth_id uuid UNIQUE, email text); INSERT INTO users VALUES (1, '0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f60', 'a@b.c')")
  const id = '0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f60'
  const source = tableSource({ ...options, extra: ['email'], pool })
  for (const change of [
    'SELECT 1', 'ALTER TABLE users ALTER COLUMN auth_id TYPE text', 'ALTER TABLE users ALTER COLUMN email TYPE varchar(320)', 'ALTER TABLE users ALTER COLUMN id TYPE bigint',
    'CREATE TABLE copy (LIKE users INCLUDING ALL); INSERT INTO copy SELECT * FROM users; ALTER TABLE users RENAME TO old; ALTER TABLE copy RENAME TO users', 'ALTER TABLE users ADD COLUMN more int, ALTER COLUMN auth_id TYPE uuid USING auth_id::uuid'
  ]) {
    for (let connections = 0; connections < 2; connections++) await Promise.all([1, 2, 3].map(() => load(source, id)))
    await sql(change)
    t.match(await load(source, id), [{ kind: 'active', user: { email: 'a@b.c', extra: { email: 'a@b.c' } } }], change)
  }
})

t.test('a role from which row-level security hides rows is refused at the start, with the policy and what to do', async t => {
  const { url, sql } = await database(t, `CREATE TABLE users (id uuid PRIMARY KEY, plan text NOT NULL DEFAULT 'free'); INSERT INTO users VALUES ('0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f60'); ALTER TABLE users ENABLE ROW LEVEL SECURITY;
    CREATE POLICY "Users read their own" ON users FOR SELECT USING (current_setting('request.jwt.claim.sub', true)::uuid = id)`)
  const id = '0ab5f1c2-6d1e-4f0e-9d5b-1b2c3d4e5f60'
  const bound = await poolOfRole(t, { url, sql }, 'rls_bound', 'GRANT SELECT ON users TO rls_bound')
  const bypassing = await poolOfRole(t, { url, sql }, 'rls_bypassing', 'ALTER ROLE rls_bypassing BYPASSRLS; GRANT SELECT ON users TO rls_bypassing')
  const owning = await poolOfRole(t, { url, sql }, 'rls_owning', 'ALTER TABLE users OWNER TO rls_owning')
  t.teardown(() => sql('ALTER TABLE users OWNER TO postgres'))
  const sourceOf = (pool: PoolLike): UserSource => tableSource({ ...options, subject: 'id', columns: { userId: 'id' }, extra: ['plan'], pool })
  const reads = async (pool: PoolLike, when: string): Promise<void> => {
    const source = sourceOf(pool)
    await source.ready!()
    t.same(await kindsOf(source, id), ['active'], when)
  }
  const refuses = async (pool: PoolLike, by: string, when: string): Promise<void> => {
    await t.rejects(sourceOf(pool).ready!(), {
      code: 'ORI_CONTRACT_INVALID_OPTION',
      message: `option "table": row-level security hides rows of "users" from the role (${by}), and their users would be unknown. The rule: the role reads all rows. Connect as a role with BYPASSRLS`
    }, when)
  }
  await refuses(bound, 'by "Users read their own"', 'a role that the policy binds')
  await reads(bypassing, 'one with BYPASSRLS')
  await reads(owning, 'the owner')
  await sql('ALTER TABLE users FORCE ROW LEVEL SECURITY')
  await refuses(owning, 'by "Users read their own"', 'the owner under FORCE')
  await reads(bypassing, 'BYPASSRLS under FORCE')
  const { app } = appOf(t, app => app.register(sessionCache, { source: sourceOf(bound) }))
  await t.rejects(async () => { await app.ready() }, { code: 'ORI_CONTRACT_INVALID_OPTION' }, 'by the app')
  await sql('CREATE POLICY all_rows ON users FOR SELECT TO rls_bound USING (true)')
  await reads(bound, 'a policy that lets it read all')
  await refuses(owning, 'by "Users read their own"', 'but not this one')
  await sql("CREATE POLICY paying ON users AS RESTRICTIVE FOR ALL USING (plan <> 'free')")
  await refuses(bound, 'by "paying"', 'a policy that restricts what others let it read')
  await sql('DROP POLICY paying ON users; DROP POLICY all_rows ON users; DROP POLICY "Users read their own" ON users; CREATE POLICY writing ON users FOR UPDATE USING (true)')
  await refuses(bound, 'no policy lets it read any', 'none that is about reading')
  await sql('ALTER TABLE users DISABLE ROW LEVEL SECURITY')
  await reads(bound, 'and when it is off')
})

t.test('a table with rows that its unique index does not cover is refused; partitions are covered', async t => {
  const { sql, pool } = await database(t, "CREATE TABLE users (id int, auth_id text UNIQUE, email text); CREATE TABLE old_users () INHERITS (users); CREATE TABLE older_users () INHERITS (old_users); INSERT INTO users VALUES (1, 'a', 'one'); INSERT INTO old_users VALUES (2, 'a', 'two')")
  const inherited = (of: string, heir: string): { code: string, message: string } => ({ code: 'ORI_CONTRACT_INVALID_OPTION', message: `option "table": rows of ${heir} are rows of "${of}" by INHERITS, and no unique index of "${of}" covers them. The rule: one row is one user.` })
  await t.rejects(tableSource({ ...options, pool }).ready!(), inherited('users', 'old_users'))
  await sql('CREATE SCHEMA apart; CREATE TABLE apart."Third" () INHERITS (users)')
  await t.rejects(tableSource({ ...options, pool }).ready!(), inherited('users', 'apart."Third", old_users'))
  await sql('ALTER TABLE old_users ADD UNIQUE (auth_id)')
  await t.rejects(tableSource({ ...options, table: 'old_users', pool }).ready!(), inherited('old_users', 'older_users'))
  await sql('ALTER TABLE older_users NO INHERIT old_users')
  t.match(await load(tableSource({ ...options, table: 'old_users', pool }), 'a'), [{ user: { email: 'two' } }], 'one that inherits itself is as any other')
  await sql('ALTER TABLE old_users NO INHERIT users; DROP TABLE apart."Third"')
  t.match(await load(tableSource({ ...options, pool }), 'a'), [{ user: { email: 'one' } }])
  await sql("CREATE TABLE parts (id int, auth_id text UNIQUE, email text) PARTITION BY HASH (auth_id); CREATE TABLE part_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE part_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO parts SELECT n, 'user_' || n, NULL FROM generate_series(1, 9) AS n")
  t.same(await kindsOf(tableSource({ ...options, table: 'parts', pool }), 'user_1', 'user_2', 'user_10'), ['active', 'active', 'unknown'])
})

t.test('a column whose type changes while its plan is in use is read by the new type, or looked at anew', async t => {
  const { sql, pool } = await database(t, `CREATE DOMAIN count AS bigint; CREATE TABLE users (id int, auth_id int UNIQUE, email text, active boolean, done boolean, tenant int, tenants int[], price int, size int, weight real, code text);
    INSERT INTO users VALUES (1, 7, NULL, false, true, 7, '{7}', 7, 7, 7, '7'), (2, 8, NULL, true, true, 7, '{7}', 7, 7, 7, '7')`)
  const extra = ['tenant', 'tenants', 'price', 'size', 'weight', 'code']
  const source = tableSource({ ...options, columns: { userId: 'id', isActive: 'active', onboardingCompleted: 'done' }, extra, pool })
  const everywhere = async (): Promise<UserRecord[][]> => await Promise.all([1, 2, 3, 4, 5].map(() => load(source, '8')))
  for (const [record] of await everywhere()) t.match(record, { user: { extra: { tenant: 7, tenants: [7], price: 7, size: 7, weight: 7, code: '7' } } })
  t.same(await kindsOf(source, '7'), ['inactive'])
  await sql('ALTER TABLE users ALTER COLUMN tenant TYPE bigint, ALTER COLUMN tenants TYPE bigint[], ALTER COLUMN price TYPE numeric(30, 10), ALTER COLUMN size TYPE count, ALTER COLUMN weight TYPE double precision, ALTER COLUMN code TYPE bigint USING code::bigint')
  await sql("UPDATE users SET tenant = 9007199254740993, tenants = '{9007199254740993}', price = 9007199254740993.5, size = 9007199254740993, weight = 0.1, code = -9007199254740993")
  const exact = { tenant: '9007199254740993', tenants: ['9007199254740993'], price: '9007199254740993.5000000000', size: '9007199254740993', weight: 0.1, code: '-9007199254740993' }
  for (const [record] of await everywhere()) t.match(record, { user: { extra: exact } })
  t.match(await load(tableSource({ ...options, columns: { userId: 'id' }, extra, pool }), '8'), [{ user: { extra: exact } }], 'as after a start')

  await sql('ALTER TABLE users ALTER COLUMN auth_id TYPE bigint; INSERT INTO users (id, auth_id) VALUES (3, 9007199254740993)')
  t.same(await kindsOf(source, '9007199254740993', '8'), ['active', 'active'], 'subjects that the column can hold now')

  await sql('ALTER TABLE users ALTER COLUMN active TYPE int USING active::int')
  for (const subject of ['7', '8']) await t.rejects(load(source, subject), { code: 'ORI_SOURCE_UNAVAILABLE', cause: { message: /"columns\.isActive": the column "active" has type integer/ } }, 'an inactive user does not become active')
  await sql('ALTER TABLE users ALTER COLUMN active TYPE boolean USING active::boolean, ALTER COLUMN done TYPE text')
  await t.rejects(load(source, '8'), { code: 'ORI_SOURCE_UNAVAILABLE', cause: { message: /"columns\.onboardingCompleted"/ } })
  await sql('ALTER TABLE users ALTER COLUMN done TYPE boolean USING done::boolean')
  t.same(await kindsOf(source, '7', '8'), ['inactive', 'active'])
})

// Only columns that are computed when they are read fail with a row.
if (postgresMajor() >= 18) {
  t.test('a user whose row fails the statement is a defect, not unknown, and fails nobody else of the batch', async t => {
    const { sql, pool } = await database(t, `CREATE TABLE users (id int, auth_id text UNIQUE, email text, a int, b int, data json, given text, ratio int GENERATED ALWAYS AS (a / b) VIRTUAL, plan text GENERATED ALWAYS AS (data ->> 'plan') VIRTUAL, age int GENERATED ALWAYS AS (given::int) VIRTUAL);
      INSERT INTO users (id, auth_id, a, b, data, given) SELECT n, 'user_' || n, 4, 2, '{"plan": "pro"}', '5' FROM generate_series(1, 20) AS n`)
    const source = tableSource({ ...options, extra: ['ratio', 'plan', 'age'], pool })
    const asked = ['user_1', 'user_2', 'user_0', 'user_3', 'user_4']
    const outcomes = async (): Promise<unknown[]> => {
      const deadline = startDeadline(systemClock, 5000)
      const settled = await Promise.allSettled(source.load(asked.map(subject => request(subject)), deadline))
      deadline.release()
      return settled.map(outcome => outcome.status === 'fulfilled' ? outcome.value.kind : [(outcome.reason as { code: string }).code, (outcome.reason as { cause: { code: string } }).cause.code])
    }
    t.same(await outcomes(), ['active', 'active', 'unknown', 'active', 'active'])
    const bad: ReadonlyArray<readonly [string, string]> = [['b = 0', '22012'], ['data = \'{"plan": "\\u0000"}\'', '22P05'], ["given = 'five'", '22P02'], ["given = '99999999999'", '22003']]
    for (const [change, code] of bad) {
      await sql(`UPDATE users SET ${change} WHERE auth_id = 'user_2'`)
      t.same(await outcomes(), ['active', ['ORI_CACHE_STATEMENT_REFUSED', code], 'unknown', 'active', 'active'], change)
      await sql("UPDATE users SET b = 2, data = NULL, given = NULL WHERE auth_id = 'user_2'")
    }
    await sql("UPDATE users SET b = 0 WHERE auth_id = 'user_2'")
    const { app, log } = appOf(t, app => app.register(sessionCache, { source }))
    const me = async (subject: string): Promise<number> => (await app.inject({ url: '/me', headers: { 'x-user': subject } })).statusCode
    t.same([await me('user_1'), await me('user_2')], [200, 500])
    t.ok(log.some(({ level, msg }) => level === 50 && msg.includes('session')), 'which is logged')
  })
}

t.test('a table that fitted once and does not any more is unavailable, which is logged once, until it is back', async t => {
  const { sql, pool } = await database(t, "CREATE TABLE users (id int, auth_id int UNIQUE, email text); INSERT INTO users VALUES (1, 7, 'a@b.c')")
  const { app, log } = appOf(t, app => app.register(sessionCache, { source: tableSource({ ...options, pool }), expireAfterMs: 20 }))
  const me = async (subject: string = '7'): Promise<string> => {
    await new Promise(resolve => { setTimeout(resolve, 30) })
    const { statusCode, headers } = await app.inject({ url: '/me', headers: { 'x-user': subject } })
    return headers['x-session-stale'] === undefined ? String(statusCode) : `${statusCode}, stale`
  }
  const misfits = (): string[] => log.splice(0).filter(({ level, msg }) => level === 50 && msg.startsWith('tableSource(): the table does not fit any more. A cache in front serves the users it knows, marked stale.')).map(({ msg }) => msg)
  t.equal(await me(), '200')
  const changes: ReadonlyArray<readonly [change: string, back: string, told: RegExp | null]> = [
    ['ALTER TABLE users ALTER COLUMN auth_id TYPE timestamp USING now()', 'ALTER TABLE users ALTER COLUMN auth_id TYPE int USING 7', /"subject": the column "auth_id" has type timestamp/],
    ['ALTER TABLE users RENAME TO gone; CREATE TABLE users (id int, auth_id date, email text)', 'DROP TABLE users; ALTER TABLE gone RENAME TO users', /"subject": the column "auth_id" has type date/],
    ['ALTER TABLE users RENAME TO gone', 'ALTER TABLE gone RENAME TO users', null],
    ["ALTER TABLE users RENAME TO gone; CREATE VIEW users AS SELECT id, auth_id::text || '' AS auth_id, email FROM gone", 'DROP VIEW users; ALTER TABLE gone RENAME TO users', /"users" is not a table/]
  ]
  for (const [change, back, told] of changes) {
    await sql(change)
    t.same([await me(), await me(), await me('8')], ['200, stale', '200, stale', '503'], change)
    const [first, ...more] = misfits()
    if (told === null) t.equal(first, undefined)
    else t.match(first, told)
    t.same(more, [])
    await sql(back)
    await until('it is back', async () => await me() === '200')
  }

  const away = new Error('away')
  let state: 'fits' | 'defect' | 'absent' = 'fits'
  const scripted: PoolLike = {
    connect: () => (pool as PoolLike).connect(),
    query: async statement => {
      if (state !== 'fits' && statement.name !== undefined) throw Object.assign(away, { code: '42601' })
      if (state === 'absent' && statement.text.includes('pg_catalog.json_agg')) return { rows: [{ facts: null }] }
      return await (pool as PoolLike).query(statement)
    }
  }
  const source = tableSource({ ...options, pool: scripted })
  t.same(await kindsOf(source, '7'), ['active'])
  state = 'defect'
  await t.rejects(load(source, '7'), { code: 'ORI_CACHE_STATEMENT_REFUSED' }, 'a defect stays one as long as the table fits')
  state = 'absent'
  for (let round = 0; round < 2; round++) await t.rejects(load(source, '7'), { code: 'ORI_SOURCE_UNAVAILABLE', cause: { message: /does not exist/ } })
  state = 'fits'
  t.same(await kindsOf(source, '7'), ['active'])
})

t.test('a server that lists parameters in its errors changes nothing', async t => {
  const { url, sql } = await database(t, usersSql)
  const pool = await poolOfRole(t, { url, sql }, 'listing', 'ALTER ROLE listing SET log_parameter_max_length_on_error = -1; GRANT SELECT ON users TO listing')
  const source = tableSource({ ...options, pool })
  await source.ready!()
  const everywhere = async (): Promise<void> => { for (const kinds of await Promise.all([1, 2, 3, 4, 5].map(() => kindsOf(source, 'user_1')))) t.same(kinds, ['active']) }
  await everywhere()
  const refusals: ReadonlyArray<readonly [change: string, back: string, code: string]> = [
    ['REVOKE SELECT ON users FROM listing', 'GRANT SELECT ON users TO listing', '42501'],
    ['ALTER TABLE users RENAME TO gone', 'ALTER TABLE gone RENAME TO users', '42P01'],
    ['ALTER TABLE users RENAME COLUMN email TO mail', 'ALTER TABLE users RENAME COLUMN mail TO email', '42703'],
    ['REVOKE USAGE ON SCHEMA public FROM PUBLIC', 'GRANT USAGE ON SCHEMA public TO PUBLIC', '42P01']
  ]
  for (const [change, back, code] of refusals) {
    await sql(change)
    await t.rejects(load(source, 'user_1'), { code: 'ORI_SOURCE_UNAVAILABLE', message: new RegExp(`^PostgreSQL refuses: .* \\(${code}\\)$`) }, change)
    await sql(back)
    await everywhere()
  }
  await sql('ALTER TABLE users ALTER COLUMN email TYPE varchar(320)')
  await everywhere()
  await sql(`CREATE FUNCTION fails () RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN PERFORM 1 FROM no_such_table; RETURN NEW; END';
    CREATE FUNCTION is_let (text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN EXISTS (SELECT FROM no_such_table); END';
    CREATE TABLE audited (id text); INSERT INTO audited VALUES ('a'); CREATE TRIGGER audit BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION fails(); GRANT SELECT, INSERT ON audited TO listing;
    CREATE POLICY reading ON audited USING (is_let(id)); ALTER TABLE audited ENABLE ROW LEVEL SECURITY; CREATE POLICY adding ON audited FOR INSERT WITH CHECK (true)`)
  for (const text of ['SELECT is_let($1)', 'INSERT INTO audited VALUES ($1)', 'SELECT * FROM audited WHERE id = $1']) {
    const error: unknown = await pool.query(text, ['a']).catch((error: unknown) => error)
    t.match(error, { code: '42P01', where: /PL\/pgSQL function .*with parameters: \$1 = 'a'$/s })
    t.equal(databaseFailureOf(error, 'own'), 'rejected', `${text}: from within a function, a trigger or a policy it is a defect all the same`)
  }
})

t.test('a database that is away at the start delays the look at the table, and is unavailable while it is away', async t => {
  const server = await testServer(t)
  const url = await server.createDatabase()
  const proxy = await startTcpProxy(server.port)
  t.teardown(async () => { await proxy.stop() })
  const pool = poolOn(t, proxy.through(url))
  await pool.query(usersSql)
  proxy.mode = 'refuse'
  proxy.reset()
  const wrong = appOf(t, app => app.register(sessionCache, { source: tableSource({ ...options, pool, extra: ['rolle'] }) })).app
  const { app } = appOf(t, app => app.register(sessionCache, { source: tableSource({ ...options, pool }) }))
  const me = async (app: FastifyInstance): Promise<number> => (await app.inject({ url: '/me', headers: { 'x-user': 'user_1' } })).statusCode
  await app.ready()
  await wrong.ready()
  t.same([await me(app), await me(wrong)], [503, 503])
  proxy.mode = 'pass'
  await until('the database is back', async () => await me(app) === 200)
  t.equal(await me(wrong), 500)
  proxy.mode = 'black hole'
  const source = tableSource({ ...options, pool: poolOn(t, proxy.through(url)) })
  const deadline = startDeadline(systemClock, 100)
  await t.rejects(source.load([request('user_1')], deadline)[0]!, SourceUnavailable)
  proxy.mode = 'pass'
  proxy.reset()
})
