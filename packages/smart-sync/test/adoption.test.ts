import { createIdentity, sessionHub, type Component, type PoolLike } from '@orientor/session-contract'
import { ManualClock, postgresMajor, testDatabase, until } from '@orientor/test-kit'
import Fastify, { type FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { smartSync, type SmartSyncOptions } from '../src/index.js'
import { migrate } from '../src/migrate.js'
import type { UsersTableOptions } from '../src/users-table.js'
import { columnsOf, deadlineIn, issuer, one, poolOn, pools, request, storeOn, syncOn } from './fixtures/on-postgres.js'

/** A service whose gateway names the user, on a pool that it is given. */
async function started (t: Test, options: SmartSyncOptions): Promise<{ app: FastifyInstance, get: (subject: string, claims?: object) => Promise<number>, health: () => Promise<{ status: string, reason: string }>, log: Array<{ level: number, msg: string }> }> {
  const log: Array<{ level: number, msg: string }> = []
  const app: FastifyInstance = Fastify({ logger: { stream: { write: (line: string) => { log.push(JSON.parse(line) as { level: number, msg: string }) } } } })
  const hub = sessionHub(app)
  hub.fill('identify', 'gateway', ({ headers }) => createIdentity({ issuer, subject: String(headers['x-user']), claims: JSON.parse(String(headers['x-claims'] ?? '{}')) }))
  app.register(smartSync, options)
  app.get('/me', { config: { session: { required: true } } }, async request => request.sessionUser)
  t.teardown(async () => { await app.close() })
  await app.ready()
  const component = hub.components.find(({ name }) => name === 'databaseSync') as Component
  return {
    app,
    log,
    health: async () => await component.health(),
    get: async (subject, claims = {}) => (await app.inject({ url: '/me', headers: { 'x-user': subject, 'x-claims': JSON.stringify(claims) } })).statusCode
  }
}

const known = `INSERT INTO users (issuer, clerk_user_id) VALUES ('${issuer}', 'known')`
const key = 'issuer text, clerk_user_id text'

/** A table that no INSERT of smart-sync would succeed on, or that it would do harm to. */
interface Hazard {
  /** The table as the app has it. */
  readonly made: string
  /** A user who is in it. */
  readonly known?: string
  readonly options?: UsersTableOptions
  /** What migrate() says: the column, and what to do. */
  readonly says: RegExp
  /** The remedy, run: then it works. */
  readonly mend: string | UsersTableOptions
}

const hazards: Readonly<Record<string, Hazard>> = {
  'an id without default, generator and supplier': {
    made: `CREATE TABLE users (id text PRIMARY KEY, ${key})`,
    known: `INSERT INTO users (id, issuer, clerk_user_id) VALUES ('1', '${issuer}', 'known')`,
    says: /column "id" has no default, and smart-sync does not fill it\. ALTER TABLE "users" ALTER COLUMN "id" SET DEFAULT …, or give the option insert: \{ "id": \(\) => … \}, or createUsers: false/,
    mend: { insert: { id: () => crypto.randomUUID() } }
  },
  'an id that may be null, without default': {
    made: `CREATE TABLE users (id uuid, ${key})`,
    known: `INSERT INTO users (id, issuer, clerk_user_id) VALUES (gen_random_uuid(), '${issuer}', 'known')`,
    says: /column "id" has no default/,
    mend: 'ALTER TABLE users ALTER COLUMN id SET DEFAULT gen_random_uuid()'
  },
  'a column that refuses null, without default': {
    made: `CREATE TABLE users (id bigserial, ${key}, updated_at timestamp NOT NULL)`,
    known: `INSERT INTO users (issuer, clerk_user_id, updated_at) VALUES ('${issuer}', 'known', now())`,
    says: /column "updated_at" has no default and refuses null, and smart-sync does not fill it\. ALTER TABLE "users" ALTER COLUMN "updated_at" SET DEFAULT …, or give the option insert/,
    mend: { insert: { updated_at: () => new Date() } }
  },
  'a domain that refuses null, without default': {
    made: `CREATE DOMAIN tier AS text NOT NULL CHECK (VALUE IN ('free', 'pro')); CREATE TABLE users (id bigserial, ${key}, plan tier)`,
    known: `INSERT INTO users (issuer, clerk_user_id, plan) VALUES ('${issuer}', 'known', 'free')`,
    says: /column "plan" has no default and refuses null/,
    mend: { insert: { plan: () => 'free' } }
  },
  'a deferrable unique constraint': {
    made: `CREATE TABLE users (id bigserial, ${key}, UNIQUE (issuer, clerk_user_id) DEFERRABLE)`,
    says: /the unique constraint on column "issuer" and column "clerk_user_id" is deferrable, which ON CONFLICT cannot go by\. Drop it, and ALTER TABLE "users" ADD UNIQUE \("issuer", "clerk_user_id"\)/,
    mend: 'ALTER TABLE users DROP CONSTRAINT users_issuer_clerk_user_id_key; ALTER TABLE users ADD UNIQUE (issuer, clerk_user_id)'
  },
  'a generated e-mail address': {
    made: `CREATE TABLE users (id bigserial, ${key}, contact text, email text GENERATED ALWAYS AS (lower(contact)) STORED)`,
    says: /column "email" is a generated column, which cannot be written\. Name another column in the option "columns"/,
    mend: { columns: { email: 'contact' } }
  },
  // PostgreSQL has such columns since 18.
  ...postgresMajor() >= 18 && {
    'a generated first name, computed when it is read': {
      made: `CREATE TABLE users (id bigserial, ${key}, name text, first_name text GENERATED ALWAYS AS (upper(name)) VIRTUAL)`,
      says: /column "first_name" is a generated column/,
      mend: { columns: { firstName: 'name' } }
    }
  },
  'rows without issuer': {
    made: `CREATE TABLE users (id bigserial, ${key}); INSERT INTO users (clerk_user_id) VALUES ('one of before')`,
    says: /column "issuer" is null in rows that name a subject, so that their users would get a second row\. ALTER TABLE "users" ADD COLUMN IF NOT EXISTS "issuer" text; UPDATE "users" SET "issuer" = 'https:\/\/…' WHERE "issuer" IS NULL, or give the option issuer: \{ always: 'https:\/\/…' \}/,
    mend: `UPDATE users SET issuer = '${issuer}' WHERE issuer IS NULL`
  },
  'a column of subjects only': {
    made: 'CREATE TABLE users (id bigserial, clerk_user_id text UNIQUE); INSERT INTO users (clerk_user_id) VALUES (\'one of before\')',
    known: 'SELECT 1',
    says: /column "issuer" is null in rows that name a subject/,
    mend: { issuer: { always: issuer } }
  },
  'a collation of the subject that ignores case': {
    made: 'CREATE COLLATION blind (provider = icu, locale = \'und-u-ks-level2\', deterministic = false); CREATE TABLE users (id bigserial, issuer text, clerk_user_id text COLLATE blind)',
    says: /column "clerk_user_id" has a collation that takes different texts for equal, so that one user could write another's row\. ALTER TABLE "users" ALTER COLUMN "clerk_user_id" TYPE text COLLATE "C"/,
    mend: 'ALTER TABLE users ALTER COLUMN clerk_user_id TYPE text COLLATE "C"'
  },
  'a collation of the issuer that ignores case': {
    made: 'CREATE COLLATION blind (provider = icu, locale = \'und-u-ks-level2\', deterministic = false); CREATE TABLE users (id bigserial, issuer text COLLATE blind, clerk_user_id text)',
    says: /column "issuer" has a collation that takes different texts for equal/,
    mend: 'ALTER TABLE users ALTER COLUMN issuer TYPE text COLLATE "C"'
  },
  'a subject of citext': {
    made: 'CREATE EXTENSION citext; CREATE TABLE users (id bigserial, issuer text, clerk_user_id citext)',
    says: /column "clerk_user_id" of users has type citext; smart-sync can use text or varchar\. Alter its type, or name another column/,
    mend: 'ALTER TABLE users ALTER COLUMN clerk_user_id TYPE text'
  },
  'a timestamp without time zone': {
    made: `CREATE TABLE users (id bigserial, ${key}, last_clerk_sync timestamp(3))`,
    says: /column "last_clerk_sync" of users has type timestamp\(3\) without time zone; smart-sync can use timestamptz\. ALTER TABLE "users" ALTER COLUMN "last_clerk_sync" TYPE timestamptz\(3\) USING "last_clerk_sync" AT TIME ZONE 'UTC', or name another column/,
    mend: 'ALTER TABLE users ALTER COLUMN last_clerk_sync TYPE timestamptz(3) USING last_clerk_sync AT TIME ZONE \'UTC\''
  },
  'a revision of a smaller type': {
    made: `CREATE TABLE users (id bigserial, ${key}, revision int NOT NULL DEFAULT 1)`,
    says: /column "revision" of users has type integer; smart-sync can use int8/,
    mend: { columns: { revision: 'row_version' } }
  },
  'a profile under a domain that refuses null': {
    made: `CREATE DOMAIN settings AS jsonb NOT NULL; CREATE TABLE users (id bigserial, ${key}, profile_data settings DEFAULT '{}')`,
    says: /column "profile_data" refuses null, which smart-sync writes\. ALTER DOMAIN settings DROP NOT NULL, or name another column/,
    mend: 'ALTER DOMAIN settings DROP NOT NULL'
  },
  'a supplied column that is not there': {
    made: `CREATE TABLE users (id bigserial, ${key})`,
    options: { insert: { plan: () => 'free' } },
    says: /column "plan" is not there\. Mend the option "insert"/,
    mend: 'ALTER TABLE users ADD COLUMN plan text'
  },
  'a supplied column that PostgreSQL always generates': {
    made: `CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY, ${key})`,
    options: { insert: { id: () => 7 } },
    says: /column "id" is GENERATED ALWAYS AS IDENTITY, which cannot be written\. Leave it out of the option "insert"/,
    mend: 'ALTER TABLE users ALTER COLUMN id SET GENERATED BY DEFAULT'
  }
}

for (const [what, { made, known: someone = known, options = {}, says, mend }] of Object.entries(hazards)) {
  t.test(`${what}: the migration refuses with column and remedy, and a start serves the users it knows`, async t => {
    const { pool } = await pools(t)
    await pool.query(`${made}; ${someone}`)
    const before = await columnsOf(pool, 'users')
    await t.rejects(migrate({ pool, ...options }), { code: 'ORI_SYNC_MIGRATION_FAILED', message: says })
    t.same(await columnsOf(pool, 'users'), before, 'and changes nothing')

    const { get, health, log } = await started(t, { pool, ...options })
    t.match(log.filter(({ level }) => level === 50), [{ msg: says }])
    t.match(await health(), { status: 'degraded', reason: says })
    if (someone !== 'SELECT 1') {
      t.equal(await get('known', { email: 'new@example.com', updated_at: Date.now() }), 200)
      t.same((await pool.query("SELECT clerk_updated_at FROM users WHERE clerk_user_id = 'known'")).rows, [{ clerk_updated_at: null }], 'as they are stored')
    }
    t.equal(await get('new'), 503)
    t.equal((await pool.query("SELECT FROM users WHERE clerk_user_id IN ('new', 'NEW')")).rowCount, 0)

    if (typeof mend === 'string') await pool.query(mend.replaceAll(/ALTER TABLE users ALTER COLUMN (\w+) TYPE/g, (text, column: string) => `${column === 'revision' ? '' : 'DROP TRIGGER zz_users_revision ON users; '}${text}`))
    const mended = { ...options, ...typeof mend === 'string' ? {} : mend }
    await migrate({ pool, ...mended })
    const after = await started(t, { pool, ...mended })
    t.match(await after.health(), { status: 'healthy' })
    t.equal(await after.get('new', { email: 'n@example.com' }), 200)
    if (someone !== 'SELECT 1') t.equal(await after.get('known', { email: 'known@example.com' }), 200)
  })
}

/** What an operator does to a table that was fit, and undoes. `byRole`: only the service is harmed by it, not the owner. */
interface Harm { readonly harm: string, readonly says: RegExp, readonly mend: string, readonly byRole?: boolean }

const harms: Readonly<Record<string, Harm>> = {
  'a new column that refuses null': {
    harm: 'ALTER TABLE users ADD COLUMN tenant int NOT NULL DEFAULT 1; ALTER TABLE users ALTER COLUMN tenant DROP DEFAULT',
    says: /column "tenant" has no default/,
    mend: 'ALTER TABLE users ALTER COLUMN tenant SET DEFAULT 1'
  },
  'a default that is gone': {
    harm: 'ALTER TABLE users ALTER COLUMN id DROP IDENTITY',
    says: /column "id" has no default/,
    mend: 'ALTER TABLE users ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START WITH 100)'
  },
  'a unique constraint that is gone': {
    harm: 'ALTER TABLE users DROP CONSTRAINT users_identity_key',
    says: /nothing keeps column "issuer" and column "clerk_user_id" unique\. ALTER TABLE "users" ADD UNIQUE/,
    mend: 'ALTER TABLE users ADD UNIQUE (clerk_user_id, issuer)'
  },
  'a unique index with a condition': {
    harm: 'ALTER TABLE users DROP CONSTRAINT users_identity_key; CREATE UNIQUE INDEX ON users (issuer, clerk_user_id) WHERE deleted_at IS NULL',
    says: /nothing keeps/,
    mend: 'CREATE UNIQUE INDEX ON users (issuer, clerk_user_id)'
  },
  'a profile that refuses null': {
    harm: "UPDATE users SET profile_data = '{}'; ALTER TABLE users ALTER COLUMN profile_data SET NOT NULL",
    says: /column "profile_data" refuses null, which smart-sync writes\. ALTER TABLE "users" ALTER COLUMN "profile_data" DROP NOT NULL/,
    mend: 'ALTER TABLE users ALTER COLUMN profile_data DROP NOT NULL'
  },
  'a privilege that is taken away': {
    harm: 'REVOKE UPDATE ON users FROM judged',
    says: /the role may not UPDATE column "email"/,
    mend: 'GRANT UPDATE ON users TO judged',
    byRole: true
  },
  'a sequence that the role may not draw from': {
    harm: "CREATE SEQUENCE tickets; ALTER TABLE users ADD COLUMN ticket int DEFAULT nextval('tickets')",
    says: /the role may not draw from the sequence tickets, which the default of column "ticket" does\. GRANT USAGE ON SEQUENCE tickets TO …/,
    mend: 'GRANT USAGE ON SEQUENCE tickets TO judged',
    byRole: true
  },
  'a serial id': {
    harm: 'ALTER TABLE users ALTER COLUMN id DROP IDENTITY; CREATE SEQUENCE "Users Id" START WITH 100; ALTER TABLE users ALTER COLUMN id SET DEFAULT nextval(\'"Users Id"\')',
    says: /the role may not draw from the sequence "Users Id", which the default of column "id" does\./,
    mend: 'GRANT UPDATE ON SEQUENCE "Users Id" TO judged',
    byRole: true
  },
  'deleted users that the role may not look up': {
    harm: 'REVOKE SELECT ON user_tombstones FROM judged',
    says: /the role may not SELECT from "user_tombstones", where deleted users are remembered\. GRANT SELECT ON "user_tombstones" TO …/,
    mend: 'GRANT SELECT ON user_tombstones TO judged',
    byRole: true
  }
}

t.test('a table that was fit once is judged at each start, and looked at again until it is mended', async t => {
  for (const [what, { harm, says, mend, byRole = false }] of Object.entries(harms)) {
    await t.test(what, async t => {
      const { url } = await testDatabase(t)
      const admin = poolOn(t, url)
      await migrate({ pool: admin })
      await admin.query("CREATE ROLE judged LOGIN PASSWORD 'judged'; GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO judged")
      t.teardown(async () => { await admin.query('DROP OWNED BY judged; DROP ROLE judged') })
      await admin.query(`${known}; ${harm}`)
      const account = new URL(url)
      account.username = account.password = 'judged'
      const manual = new ManualClock()
      // The hub's deadlines come from the clock of the process.
      const clock = { now: () => Date.now(), monotonic: () => performance.now(), setTimer: manual.setTimer }
      const { get, health, log } = await started(t, { pool: poolOn(t, account.href), clock })
      const errors = (): string[] => log.filter(({ level }) => level === 50).map(({ msg }) => msg)
      t.match(await health(), { status: 'degraded', reason: says })
      t.match(errors(), [says])
      t.same([await get('known'), await get('new')], [200, 503])
      if (!byRole) await t.rejects(migrate({ pool: admin }), { code: 'ORI_SYNC_MIGRATION_FAILED', message: says })
      await admin.query(mend)
      await until('it is seen', async () => {
        manual.advance(60_000)
        return (await health()).status === 'healthy'
      })
      t.equal(errors().length, 1, 'it is told once')
      t.ok(log.some(({ msg }) => msg === 'smart-sync: the tables are in order again'))
      t.equal(await get('new'), 200)
    })
  }
})

t.test('row-level security that hides rows from the role keeps users from being written twice', async t => {
  const policies: ReadonlyArray<readonly [string, boolean]> = [
    ['CREATE POLICY own ON users USING (false)', false],
    ['SELECT 1', false],
    ['CREATE POLICY all_rows ON users FOR ALL TO app USING (true) WITH CHECK (true)', true],
    ['CREATE POLICY s ON users FOR SELECT TO app USING (true); CREATE POLICY i ON users FOR INSERT TO PUBLIC WITH CHECK (true); CREATE POLICY u ON users FOR UPDATE TO app USING (true)', true],
    ['CREATE POLICY s ON users FOR SELECT TO app USING (true)', false],
    ['CREATE POLICY all_rows ON users FOR ALL TO PUBLIC USING (true); CREATE POLICY live ON users AS RESTRICTIVE FOR SELECT USING (deleted_at IS NULL)', false],
    ['CREATE POLICY others ON users FOR ALL TO postgres USING (true)', false],
    ['ALTER ROLE app BYPASSRLS', true]
  ]
  for (const [policy, isFit] of policies) {
    await t.test(policy, async t => {
      const { url } = await testDatabase(t)
      const admin = poolOn(t, url)
      await migrate({ pool: admin })
      await admin.query(`CREATE ROLE app LOGIN PASSWORD 'app'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app; ${known}; ALTER TABLE users ENABLE ROW LEVEL SECURITY; ${policy}`)
      t.teardown(async () => { await admin.query('DROP OWNED BY app; DROP ROLE app') })
      const account = new URL(url)
      account.username = account.password = 'app'
      const pool = poolOn(t, account.href)
      const { health, get } = await started(t, { pool })
      if (isFit) {
        t.match(await health(), { status: 'healthy' })
        t.same([await get('known'), await get('new')], [200, 200])
      } else {
        const says = /row-level security may hide rows of "users" from the role \(.*\)\. Let the role see them: ALTER ROLE … BYPASSRLS, or CREATE POLICY/
        await t.rejects(migrate({ pool }), { code: 'ORI_SYNC_MIGRATION_FAILED', message: says })
        t.match(await health(), { status: 'degraded', reason: says })
        t.equal(await get('new'), 503)
      }
      t.equal((await admin.query("SELECT FROM users WHERE clerk_user_id = 'known'")).rowCount, 1)
    })
  }
})

t.test('tables that look odd and work are taken as they are', async t => {
  const fine: Readonly<Record<string, readonly [made: string, options?: UsersTableOptions]>> = {
    'text types under domains': ["CREATE EXTENSION citext; CREATE DOMAIN mail AS citext CHECK (VALUE LIKE '%@%'); CREATE DOMAIN short AS varchar(40); CREATE DOMAIN shorter AS short; CREATE TABLE users (id bigserial, issuer short, clerk_user_id shorter, email mail, first_name short)"],
    'a domain that has a default': ["CREATE DOMAIN tier AS text NOT NULL DEFAULT 'free'; CREATE TABLE users (id bigserial, plan tier)"],
    'a domain as id': ['CREATE DOMAIN key AS bigint; CREATE TABLE users (id key DEFAULT 7)'],
    'a deletion without time zone': ['CREATE TABLE users (id bigserial, deleted_at timestamp(3))'],
    'generated columns that are only read': ["CREATE TABLE users (id bigserial, status text DEFAULT 'on', is_active boolean GENERATED ALWAYS AS (status = 'on') STORED)"],
    'a unique index with more columns beside': ['CREATE TABLE users (id bigserial, issuer text, clerk_user_id text, email text); CREATE UNIQUE INDEX ON users (clerk_user_id, issuer) INCLUDE (email)'],
    'a revision out of range': ['CREATE TABLE users (id bigserial, issuer text, clerk_user_id text, revision bigint DEFAULT 9223372036854775807)'],
    'the provider\'s id as the app\'s': ['CREATE TABLE users (sub text PRIMARY KEY)', { subject: 'sub', issuer: { always: issuer }, columns: { userId: 'sub' } }],
    'json for jsonb': ['CREATE TABLE users (id bigserial, profile_data json)'],
    'a column that refuses null and is computed': ['CREATE TABLE users (id bigserial, first_name text, initial text GENERATED ALWAYS AS (coalesce(left(first_name, 1), \'?\')) STORED NOT NULL)']
  }
  for (const [what, [made, options = {}]] of Object.entries(fine)) {
    await t.test(what, async t => {
      const { pool } = await pools(t)
      await pool.query(made)
      await migrate({ pool, ...options })
      const { get, health, log } = await started(t, { pool, ...options })
      t.match(await health(), { status: 'healthy' })
      const claims = { email: 'a@example.com', given_name: 'Ada', updated_at: 1_700_000_000 }
      t.same([await get('new', claims), await get('new', { ...claims, given_name: 'Augusta', updated_at: 1_700_000_001 }), await get('new')], [200, 200, 200])
      t.same((await pool.query('SELECT email, first_name FROM users')).rows, [{ email: 'a@example.com', first_name: 'Augusta' }])
      // A revision of the app's own is told of.
      t.match(log.filter(({ level }) => level >= 40), made.includes('revision') ? [{ msg: /column "revision" was there before smart-sync, which counts in it: what the app writes into it is replaced/ }] : [])
      await migrate({ pool, ...options, to: 0 })
    })
  }
})

t.test('where a trigger may fill the column before an insert there is a warning, and the trigger decides', async t => {
  for (const fills of [true, false]) {
    const { pool } = await pools(t)
    await pool.query(`CREATE TABLE users (id uuid PRIMARY KEY, tenant int NOT NULL);
      CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${fills ? 'NEW.id := gen_random_uuid(); NEW.tenant := 1;' : ''} RETURN NEW; END $$;
      CREATE TRIGGER fill BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION fill()`)
    await migrate({ pool })
    const { get, health, log } = await started(t, { pool })
    t.match(await health(), { status: 'healthy' })
    t.match(log.filter(({ level }) => level === 40), [
      { msg: /column "id" has no default, and smart-sync does not fill it, unless the trigger "fill" does\. If it does not: ALTER TABLE/ },
      { msg: /column "tenant" has no default and refuses null, .*, unless the trigger "fill" does/ }
    ])
    t.equal(await get('new'), fills ? 200 : 500)
    await pool.query('ALTER TABLE users DISABLE TRIGGER fill')
    await t.rejects(migrate({ pool }), { message: /column "id" has no default, and smart-sync does not fill it\. ALTER TABLE/ }, 'a disabled one fills nothing')
  }
})

t.test('an e-mail address that may not be null is warned about, and is no reason not to write the others', async t => {
  const { pool } = await pools(t)
  await migrate({ pool })
  await pool.query('ALTER TABLE users ALTER COLUMN email SET NOT NULL')
  const { get, health, log } = await started(t, { pool })
  t.match(log.filter(({ level }) => level === 40), [{ msg: /column "email" refuses null, so that a user without one cannot be stored\. ALTER TABLE "users" ALTER COLUMN "email" DROP NOT NULL/ }])
  t.match(await health(), { status: 'healthy' })
  t.same([await get('a', { email: 'a@example.com' }), await get('b')], [200, 500])
})

t.test('a value that is too long is told as such, with its column, and never itself', async t => {
  const { pool } = await pools(t)
  await pool.query('CREATE DOMAIN short AS varchar(5); CREATE TABLE users (id bigserial, issuer varchar(60), clerk_user_id varchar(20), email text UNIQUE, first_name varchar(10), last_name short)')
  await migrate({ pool })
  const refused = async (subject: string, claims: Record<string, unknown>): Promise<Error & { code: string }> => {
    return await one(syncOn(pool), request(subject, claims), deadlineIn(t, 5000)).then(() => { throw new Error('stored') }, (error: unknown) => error as Error & { code: string })
  }
  const long: ReadonlyArray<readonly [string, Record<string, unknown>, string]> = [
    ['a', { given_name: 'Wolfeschlegelstein' }, 'column "first_name" takes 10 characters, and the value has 18'],
    ['a', { given_name: 'Ada', family_name: 'Lovelace' }, 'column "last_name" takes 5 characters, and the value has 8'],
    ['a', { given_name: '👩'.repeat(11), family_name: 'x'.repeat(6) }, 'column "first_name" takes 10 characters, and the value has 11; column "last_name" takes 5 characters, and the value has 6'],
    ['user_'.repeat(5), {}, 'column "clerk_user_id" takes 20 characters, and the value has 25']
  ]
  for (const [subject, claims, says] of long) {
    const error = await refused(subject, claims)
    t.equal(error.code, 'ORI_SYNC_VALUE_TOO_LONG')
    t.equal(error.message, `The users table cannot hold a user: ${says}. The rule: a value is no longer than its column takes. Widen the column, or shorten the value at the provider.`)
  }
  const random = Array.from({ length: 4000 }, (_, n) => String.fromCharCode(0x4e00 + (n * 7919) % 20_000)).join('')
  for (const [email, place] of [[random, 'SQLSTATE 54000'], [random.slice(0, 1000), 'SQLSTATE 54000, table users, constraint users_email_key']] as const) {
    const error = await refused('b', { email })
    t.equal(error.code, 'ORI_SYNC_VALUE_TOO_LONG')
    t.match(error.message, `a value is too long for an index (${place}`)
    t.notMatch(error.message, random.slice(0, 10))
  }
  t.match(await one(syncOn(pool), request('b', { given_name: '👩'.repeat(10) }), deadlineIn(t, 5000)), { kind: 'active' })
  const batch = syncOn(pool).load([request('c'), request('d', { given_name: 'x'.repeat(11) }), request('e')], deadlineIn(t, 5000))
  t.same((await Promise.allSettled(batch)).map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
  t.match(await one(syncOn(pool), request('c', { given_name: 'x'.repeat(11), updated_at: 1_700_000_000 }), deadlineIn(t, 5000)), { kind: 'active', sync: 'failed' }, 'a known user goes on as stored')
})

t.test('a key that is longer than its column by blanks alone is no other user\'s: PostgreSQL would cut them in silence', async t => {
  const tables = {
    'a subject of varchar': 'CREATE TABLE users (id bigserial, issuer text, clerk_user_id varchar(6))',
    'a subject under a domain': 'CREATE DOMAIN short AS varchar(6); CREATE DOMAIN shorter AS short; CREATE TABLE users (id bigserial, issuer text, clerk_user_id shorter)',
    'a subject beside a constant issuer': 'CREATE TABLE users (id bigserial, clerk_user_id varchar(6))'
  }
  for (const [what, made] of Object.entries(tables)) {
    await t.test(what, async t => {
      const { pool } = await pools(t)
      await pool.query(made)
      const table = what.includes('constant') ? { issuer: { always: issuer } } : {}
      await migrate({ pool, ...table })
      const sync = syncOn(pool, { store: storeOn(pool, undefined, table) })
      t.match(await one(sync, request('victim', { email: 'victim@example.com', updated_at: 1_700_000_000 }), deadlineIn(t, 5000)), { kind: 'active' })
      const before = (await pool.query('SELECT * FROM users')).rows
      for (const blanks of [' ', '   ']) {
        const wanted = request(`victim${blanks}`, { email: 'evil@example.com', updated_at: 1_800_000_000 })
        await t.rejects(one(sync, wanted, deadlineIn(t, 5000)), { code: 'ORI_SYNC_VALUE_TOO_LONG', message: /takes \d+ characters, and the value has \d+/ })
        const batch = sync.load([request('a'), wanted, request('b')], deadlineIn(t, 5000))
        t.same((await Promise.allSettled(batch)).map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled'])
        await pool.query("DELETE FROM users WHERE clerk_user_id IN ('a', 'b')")
      }
      t.same((await pool.query('SELECT * FROM users')).rows, before)
    })
  }
})

t.test('a table that could not be looked at, since the database was away, is not written until it was', async t => {
  const { pool } = await pools(t)
  await pool.query(`CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE users (id bigserial, issuer text, clerk_user_id text); ${known}`)
  await migrate({ pool })
  await pool.query('DROP TRIGGER zz_users_revision ON users; ALTER TABLE users ALTER COLUMN clerk_user_id TYPE text COLLATE blind')
  let isAway = true
  const gone = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  const looks: string[] = []
  // The catalogue cannot be read, as when the database comes up while the service does.
  const flaky: PoolLike = {
    connect: async () => { if (isAway) throw gone; return await (pool as PoolLike).connect() },
    query: async statement => {
      if (statement.text.includes('lockedSequences')) looks.push(statement.text)
      if (isAway && statement.text.includes('lockedSequences')) throw gone
      return await (pool as PoolLike).query(statement)
    }
  }
  const manual = new ManualClock()
  const clock = { now: () => Date.now(), monotonic: () => performance.now(), setTimer: manual.setTimer }
  const { get, health, log } = await started(t, { pool: flaky, clock, migrate: false })
  t.match(await health(), { status: 'degraded', reason: /it could not be looked at yet/ })
  t.match(log.filter(({ level }) => level === 40), [{ msg: /the users table could not be looked at yet; users are served as they are stored, and none is written/ }])
  t.same([await get('known'), await get('KNOWN', { email: 'evil@example.com', updated_at: 1_700_000_000 }), await get('new')], [200, 503, 503])
  t.equal((await pool.query("SELECT FROM users WHERE email = 'evil@example.com'")).rowCount, 0)
  isAway = false
  await until('it is looked at, soon', async () => {
    manual.advance(500)
    return (await health()).reason.includes('collation')
  })
  t.ok(looks.length >= 2)
  t.same([await get('known'), await get('new')], [200, 503])
})

t.test('a migration whose look at the rows is cancelled has not happened, and does not say so', async t => {
  const { pool } = await pools(t)
  await pool.query(`CREATE TABLE users (id bigserial, ${key})`)
  const cancelled: PoolLike = {
    query: async statement => await (pool as PoolLike).query(statement),
    connect: async () => {
      const client = await (pool as PoolLike).connect()
      return {
        query: async statement => {
          if (/IS NULL AND .* IS NOT NULL LIMIT 1/.test(statement.text)) {
            await client.query({ text: "SET LOCAL statement_timeout = '1ms'" })
            return await client.query({ text: 'SELECT pg_sleep(10)' })
          }
          return await client.query(statement)
        },
        release: destroy => { client.release(destroy) },
        on: (event, listener) => client.on(event, listener),
        off: (event, listener) => client.off(event, listener)
      }
    }
  }
  await t.rejects(migrate({ pool: cancelled }), { code: 'ORI_SOURCE_UNAVAILABLE' })
  t.same(await migrate({ pool }), ['1.do.users', '2.do.records', '3.do.revision', '4.do.dead-letters'])
})

t.test('what a trigger or an option makes updates cost is told, with the remedy', async t => {
  const { pool } = await pools(t)
  await pool.query(`CREATE TABLE users (id bigserial, ${key}, updated_at timestamptz);
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
    CREATE TRIGGER "set Updated" BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()`)
  const warned = async (options: UsersTableOptions): Promise<string[]> => {
    await migrate({ pool, ...options })
    const { log, health } = await started(t, { pool, ...options })
    t.match(await health(), { status: 'healthy' })
    return log.filter(({ level }) => level === 40).map(({ msg }) => msg)
  }
  t.match(await warned({}), [/every update of "users" calls the trigger that counts column "revision", since "set Updated" may change what is read where the update does not say so\. If that changes no column that smart-sync reads, give the option harmlessTriggers: \["set Updated"\]/])
  t.same(await warned({ harmlessTriggers: ['set Updated'] }), [])
  t.same(await warned({ columnLists: false }), [], 'which was asked for')
  t.match(await warned({ harmlessTriggers: ['set Updated', 'set_updated'] }), [/the option "harmlessTriggers" names "set_updated", which is no enabled trigger BEFORE UPDATE FOR EACH ROW of "users"\. Mend the option/])
})

t.test('a column that may hold the provider\'s id of a user is told of as such', async t => {
  const { pool } = await pools(t)
  await pool.query('CREATE TABLE users (id bigserial PRIMARY KEY, clerk_id text NOT NULL UNIQUE, plan text NOT NULL)')
  await t.rejects(migrate({ pool }), { message: /column "clerk_id" has no default and refuses null, and smart-sync does not fill it\. If it holds the provider's id of a user, give the option subject: "clerk_id"; else ALTER TABLE/ })
  await t.rejects(migrate({ pool }), { message: /column "plan" has no default and refuses null, and smart-sync does not fill it\. ALTER TABLE/ })
})

t.test('under a collation that ignores case no user is given, or changes, another\'s row', async t => {
  const { pool } = await pools(t)
  await pool.query("CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE users (id bigserial, issuer text, clerk_user_id text COLLATE blind, email text, UNIQUE (issuer, clerk_user_id))")
  await pool.query(`INSERT INTO users (issuer, clerk_user_id, email) VALUES ('${issuer}', 'AbC', 'real@example.com')`)
  const { get } = await started(t, { pool })
  t.same([await get('AbC', { email: 'x' }), await get('aBc', { email: 'evil@example.com', updated_at: Date.now() })], [200, 503])
  t.same((await pool.query('SELECT clerk_user_id, email FROM users')).rows, [{ clerk_user_id: 'AbC', email: 'real@example.com' }])
})

t.test('a start that may not migrate, or cannot, serves what is there, and says so', async t => {
  const { url } = await testDatabase(t)
  const admin = poolOn(t, url)
  await migrate({ pool: admin })
  await admin.query(`REVOKE CREATE ON SCHEMA public FROM PUBLIC; ${known}; DELETE FROM smart_sync_migrations WHERE version > 2; COMMENT ON TRIGGER zz_users_revision ON users IS 'ours'; CREATE ROLE app LOGIN PASSWORD 'app'; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app`)
  t.teardown(async () => { await admin.query('DROP OWNED BY app; DROP ROLE app') })
  const account = new URL(url)
  account.username = account.password = 'app'
  const { get, health, log } = await started(t, { pool: poolOn(t, account.href) })
  t.match(log.filter(({ level }) => level === 40), [
    { err: { message: /permission denied/ }, msg: 'smart-sync: the tables could not be brought up to date. Users can be read, and are served' },
    { msg: 'smart-sync: the trigger that counts column "revision" is not as this version needs it. Run migrate() as the owner of the table; until then caches load users more often than they must.' }
  ])
  t.match(await health(), { status: 'degraded', reason: 'The tables could not be brought up to date' })
  t.same([await get('known'), await get('new')], [200, 200])
  const readOnly = new pg.Pool({ connectionString: url, options: '-c default_transaction_read_only=on' })
  t.teardown(async () => { await readOnly.end() })
  const other = await started(t, { pool: readOnly })
  t.match(await other.health(), { status: 'degraded' })
  t.same([await other.get('known'), await other.get('newer')], [200, 503])
  t.same(await migrate({ pool: admin }), ['3.do.revision', '4.do.dead-letters'])
  const { get: last, health: mended } = await started(t, { pool: poolOn(t, account.href) })
  t.match(await mended(), { status: 'healthy' })
  t.equal(await last('last'), 200)
})

t.test('with migrate: false the tables are judged all the same', async t => {
  const { pool } = await pools(t)
  await migrate({ pool })
  await pool.query(`${known}; ALTER TABLE users ALTER COLUMN id DROP IDENTITY`)
  const { get, health } = await started(t, { pool, migrate: false })
  t.match(await health(), { status: 'degraded', reason: /column "id" has no default/ })
  t.same([await get('known'), await get('new')], [200, 503])
})
