import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fastifyPostgres from '@fastify/postgres'
import { poolTuning } from '@orientor/pool-tuning'
import { sessionCache } from '@orientor/session-cache'
import { outboxSql, postgresBus, tableSource } from '@orientor/session-cache/postgres'
import { createIdentity, requireSessionUser, sessionHub, sessionKey, startDeadline, systemClock, type PoolLike, type UserRecord, type UserSource } from '@orientor/session-contract'
import { smartSync, type SmartSyncOptions } from '@orientor/smart-sync'
import { migrate, observe, sessionEnded, userDeleted, type ObservedProfile } from '@orientor/smart-sync/core'
import { testDatabase, until } from '@orientor/test-kit'
import Fastify, { type FastifyInstance } from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'

const document = readFileSync(new URL('../../../docs/adding-to-an-app.md', import.meta.url), 'utf8')
const blocks = new Map([...document.matchAll(/```(js|sql) ([\w-]+)\n([\s\S]*?)```/g)].map(([, language, name, text]) => [`${language} ${name}`, text!]))
const block = (name: string): string => {
  const text = blocks.get(name)
  if (text === undefined) throw new Error(`The document has no block "${name}"`)
  return text
}

const issuer = 'https://id.example.com'
const authenticate = async (request: { headers: Record<string, unknown> }): Promise<string | null> => typeof request.headers['x-user'] === 'string' ? request.headers['x-user'] : null
const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => (...given: unknown[]) => Promise<unknown>

/** Runs a block of the document, as it stands there, with what an app imports. */
async function run (name: string, scope: object): Promise<void> {
  const known = { fastifyPostgres, poolTuning, sessionCache, postgresBus, tableSource, createIdentity, requireSessionUser, sessionHub, smartSync, randomUUID, issuer, authenticate, ...scope }
  await new AsyncFunction(...Object.keys(known), block(name))(...Object.values(known))
}

/** What a block of the document declares. */
async function declared<T> (name: string, variable: string): Promise<T> {
  const known = { tableSource, randomUUID, issuer }
  return await new AsyncFunction(...Object.keys(known), `${block(name)}; return ${variable}`)(...Object.values(known)) as T
}

function poolOn (t: Test, connectionString: string): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 5 })
  pool.on('error', () => {})
  t.teardown(async () => { await pool.end() })
  return pool
}

interface Seen { readonly app: FastifyInstance, readonly log: Array<{ level: number, msg: string }>, readonly get: (url: string, subject?: string) => Promise<{ status: number, body: Record<string, unknown> }> }

function newApp (t: Test): Seen {
  const log: Array<{ level: number, msg: string }> = []
  const app: FastifyInstance = Fastify({ logger: { level: 'info', stream: { write: (line: string) => { log.push(JSON.parse(line) as { level: number, msg: string }) } } } })
  t.teardown(async () => { await app.close() })
  return {
    app,
    log,
    get: async (url, subject) => {
      const reply = await app.inject({ url, headers: subject === undefined ? {} : { 'x-user': subject } })
      return { status: reply.statusCode, body: reply.body === '' ? {} : reply.json<Record<string, unknown>>() }
    }
  }
}

t.test('each step of the document works on the app that came before it', async t => {
  const steps: ReadonlyArray<readonly [string, readonly string[]]> = [
    ['before', ['js before']],
    ['1', ['js before', 'js step-1']],
    ['2', ['js before', 'js step-1', 'js step-2', 'js step-2-route']],
    ['3', ['js before', 'js step-1', 'js step-3', 'js step-2-route']],
    ['4', ['js step-4', 'js step-1', 'js step-3', 'js step-2-route']],
    ['5', ['js step-4', 'js step-1', 'js step-5', 'js step-2-route']]
  ]
  for (const [step, names] of steps) {
    await t.test(`step ${step}`, async t => {
      const { url } = await testDatabase(t)
      const pool = poolOn(t, url)
      await pool.query(block('sql before'))
      await pool.query(`INSERT INTO users (auth_id, email) SELECT 'user_' || n, n || '@example.com' FROM generate_series(1, 1000) AS n;
        CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
        CREATE TRIGGER set_updated_at BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp()`)
      const { app, get, log } = newApp(t)
      for (const name of names) await run(name, { app, connectionString: url })
      const path = names.includes('js step-2-route') ? '/account' : '/me'
      const { rows: [{ id }] } = await pool.query("SELECT id FROM users WHERE auth_id = 'user_7'")
      t.same(await get(path, 'user_7'), { status: 200, body: { id, email: '7@example.com', plan: 'free' } })
      t.equal((await get(path)).status, 401)
      // Of whom there is no row: smart-sync makes one, without the e-mail address that nothing tells.
      t.equal((await get(path, 'user_0')).status, names.includes('js step-5') ? 200 : 401)
      t.equal((await pool.query("SELECT FROM users WHERE auth_id = 'user_0' AND email IS NULL")).rowCount, names.includes('js step-5') ? 1 : 0)
      t.same(log.filter(({ level }) => level >= 40), [])
      if (!names.some(name => name === 'js step-3' || name === 'js step-5')) return
      t.ok(log.some(({ msg }) => msg.includes('bus=postgres(trusted)')))
      await pool.query("UPDATE users SET plan = 'pro' WHERE auth_id = 'user_7'")
      await until('the change is seen', async () => (await get(path, 'user_7')).body['plan'] === 'pro')
      const { rows } = await pool.query("SELECT pg_get_triggerdef(oid) AS made FROM pg_trigger WHERE tgrelid = 'users'::regclass AND tgname ~ '^orientor.*_row$|^zz_'")
      t.ok(rows.every(({ made }) => / UPDATE OF /.test(String(made))), 'an update of last_seen_at calls no trigger')
    })
  }
  const lines = ['js step-1', 'js step-2', 'js step-4'].reduce((sum, name) => sum + block(name).trim().split('\n').length, 0)
  t.ok(lines <= 12, `${lines} lines for users from memory and a pool that survives`)
})

interface Tool {
  /** The table, quoted. */
  readonly table: string
  /** How the tool inserts a user. */
  readonly insert: (subject: string) => string
  /** What the user has under `extra`. */
  readonly extra: Record<string, unknown>
  /** What a row that smart-sync made holds, beside. */
  readonly made?: string
}

const tools: Readonly<Record<string, Tool>> = {
  prisma: {
    table: '"User"',
    insert: subject => `INSERT INTO "public"."User" ("id","authId","email","name","updatedAt") VALUES ('c${subject}','${subject}','${subject}@example.com','Ada','2026-01-01 00:00:00')`,
    extra: { role: 'USER' },
    made: '"updatedAt" IS NOT NULL AND length("id") = 36'
  },
  drizzle: {
    table: 'users',
    insert: subject => `insert into "users" ("id", "auth_id", "email", "display_name", "role", "is_active", "created_at", "updated_at") values (default, '${subject}', '${subject}@example.com', 'Ada', default, default, default, '2026-01-01 00:00:00')`,
    extra: { role: 'user', display_name: 'Ada' },
    made: 'display_name = \'New user\' AND updated_at IS NOT NULL'
  },
  typeorm: {
    table: '"user"',
    insert: subject => `INSERT INTO "user"("id", "authId", "email", "firstName", "role", "isActive", "createdAt", "updatedAt", "deletedAt", "version") VALUES (DEFAULT, '${subject}', '${subject}@example.com', 'Ada', DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, 1)`,
    extra: { role: 'user' },
    made: '"version" = 1'
  },
  rails: {
    table: 'users',
    insert: subject => `INSERT INTO "users" ("auth_id", "email", "first_name", "admin", "created_at", "updated_at") VALUES ('${subject}', '${subject}@example.com', 'Ada', FALSE, '2026-01-01 00:00:00', '2026-01-01 00:00:00') RETURNING "id"`,
    extra: { admin: false },
    made: 'created_at IS NOT NULL AND updated_at IS NOT NULL'
  },
  supabase: {
    table: 'public.profiles',
    insert: subject => `INSERT INTO public.profiles (id, username) VALUES ('${subject}', '${subject}')`,
    extra: { plan: 'free' }
  }
}

async function columnsOf (pool: pg.Pool, table: string): Promise<unknown[]> {
  return (await pool.query('SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname', [table])).rows
}

const subjectOf = (tool: string, n: number): string => tool === 'supabase' ? `0ab5f1c2-6d1e-4f0e-9d5b-00000000000${n}` : `user_${n}`

for (const [tool, { table, insert, extra, made }] of Object.entries(tools)) {
  t.test(`a table as ${tool} makes it is read as it is`, async t => {
    const { url } = await testDatabase(t)
    const pool = poolOn(t, url)
    await pool.query(block(`sql ${tool}`))
    await pool.query(insert(subjectOf(tool, 1)))
    const before = await columnsOf(pool, table)
    const { app, get, log } = newApp(t)
    app.decorate('pg' as never, { pool } as never)
    await run('js step-1', { app })
    await app.register(sessionCache, { source: await declared<UserSource>(`js ${tool}-read`, 'source'), bus: postgresBus({ pool }) })
    app.get('/me', { config: { session: { required: true } } }, async request => requireSessionUser(request))
    const { status, body } = await get('/me', subjectOf(tool, 1))
    t.equal(status, 200)
    t.match(body, { subject: subjectOf(tool, 1), isActive: true, extra })
    t.equal((await get('/me', subjectOf(tool, 2))).status, 401)
    t.equal((await get('/me', 'no id at all')).status, 401)
    await pool.query(insert(subjectOf(tool, 2)))
    await until('the new row is seen', async () => (await get('/me', subjectOf(tool, 2))).status === 200)
    t.same(log.filter(({ level }) => level >= 40), [])
    t.same(await columnsOf(pool, table), before)
  })

  if (tool === 'supabase') continue
  t.test(`a table as ${tool} makes it is kept in step with the provider, while the app goes on to use it`, async t => {
    const { url } = await testDatabase(t)
    const pool = poolOn(t, url)
    await pool.query(block(`sql ${tool}`))
    await pool.query(insert('user_1'))
    const before = await columnsOf(pool, table)
    const users = await declared<SmartSyncOptions>(`js ${tool}-sync`, 'users')
    const { insert: _, ...without } = users
    await t.rejects(migrate({ pool, ...without }), { code: 'ORI_SYNC_MIGRATION_FAILED', message: /has no default/ }, 'what the table lacks is told')
    t.same(await columnsOf(pool, table), before)
    await migrate({ pool, ...users })

    const { app, get, log } = newApp(t)
    sessionHub(app).fill('identify', 'gateway', request => {
      const subject = String(request.headers['x-user'])
      return createIdentity({ issuer, subject, claims: { email: `${subject}@example.com`, given_name: 'Augusta', updated_at: 1_700_000_000 } })
    })
    await app.register(smartSync, { pool, ...users })
    app.get('/me', { config: { session: { required: true } } }, async request => requireSessionUser(request))
    const old = await get('/me', 'user_1')
    t.match(old, { status: 200, body: { email: 'user_1@example.com', firstName: 'Augusta', extra } })
    const fresh = await get('/me', 'user_2')
    t.match(fresh, { status: 200, body: { email: 'user_2@example.com', firstName: 'Augusta' } })
    t.equal((await pool.query(`SELECT FROM ${table} WHERE email = 'user_2@example.com' AND ${made!}`)).rowCount, 1)
    await pool.query(insert('user_3'))
    t.match(await get('/me', 'user_3'), { status: 200, body: { extra } })
    t.equal((await pool.query(`SELECT FROM ${table}`)).rowCount, 3)
    t.same(log.filter(({ level }) => level >= 40), [])
    await app.close()
    await migrate({ pool, ...users, to: 0 })
    t.same(await columnsOf(pool, table), before)
  })
}

/** A role of its own in a database of its own. */
interface Account { readonly admin: pg.Pool, readonly pool: pg.Pool, readonly url: string }

const watched = { table: 'users', subject: 'auth_id', issuer: { always: issuer }, columns: { userId: 'id', email: 'email' }, extra: ['plan'] } as const

async function loaded (source: UserSource, subject: string, claims: Record<string, unknown> = {}): Promise<UserRecord> {
  const deadline = startDeadline(systemClock, 5000)
  try {
    return await source.load([{ key: sessionKey(issuer, subject), issuer, subject, identity: createIdentity({ issuer, subject, claims }) }], deadline)[0]!
  } finally {
    deadline.release()
  }
}

/** Starts smart-sync alone as the role, and serves these users; each has to be written where it says so. */
async function served (t: Test, pool: PoolLike, options: SmartSyncOptions, users: Readonly<Record<string, 'performed' | 'skipped'>>): Promise<void> {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(smartSync, { pool, ...options })
  await app.ready()
  for (const [subject, sync] of Object.entries(users)) {
    const record = await loaded(sessionHub(app).slots.source!, subject, { updated_at: sync === 'performed' ? 1_700_000_000 : undefined })
    if (record.kind !== 'active' || record.sync !== sync) throw new Error(`${subject}: ${JSON.stringify(record)}`)
  }
}

/** Stores one observation of each kind, and one that the table refuses. */
async function stored (t: Test, admin: pg.Pool, pool: pg.Pool, deletionPolicy: 'deactivate' | 'delete'): Promise<void> {
  await admin.query("ALTER TABLE users ADD CHECK (first_name <> 'Poison')")
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(smartSync, { pool, migrate: false, deletionPolicy })
  await app.ready()
  const issuer = 'https://id.example.com'
  const profile = (firstName: string): ObservedProfile => ({ email: null, firstName, lastName: null, blocked: false, data: null })
  const outcomes = await app.smartSync.apply([
    observe(issuer, 'new', profile('Ada'), 1_700_000_000_000, true),
    sessionEnded(issuer, 'new', 'sess_1', Date.now() + 60_000),
    observe(issuer, 'poison', profile('Poison'), 1_700_000_000_000, true),
    userDeleted(issuer, 'known')
  ])
  const kinds = outcomes.map(({ kind }) => kind).join(' ')
  if (kinds !== 'created created dead_lettered tombstoned') throw new Error(kinds)
}

const synced = "INSERT INTO users (issuer, clerk_user_id, last_clerk_sync) VALUES ('https://id.example.com', 'known', now())"

/** What each row of the table of rights is tried by: how the owner prepares the database, and what the role does. */
const features: Readonly<Record<string, readonly [prepare: (account: Account) => Promise<unknown>, use: (t: Test, account: Account) => Promise<void>]>> = {
  '`tableSource()`': [
    ({ admin }) => admin.query(`${block('sql before')}; INSERT INTO users (auth_id, email) VALUES ('a', 'a@b.c')`),
    async (_t, { pool }) => {
      const record = await loaded(tableSource({ ...watched, pool }), 'a')
      if (record.kind !== 'active') throw new Error(record.kind)
    }
  ],
  'a bus whose triggers are in place': [
    ({ admin }) => admin.query(block('sql before')),
    async (t, account) => {
      await account.admin.query(outboxSql(tableSource(watched).watches!))
      await trusted(t, account)
    }
  ],
  'a bus that puts its triggers in place': [({ admin }) => admin.query(block('sql before')), (t, account) => trusted(t, account)],
  'smart-sync, `migrate: false`, known users only': [
    async ({ admin }) => { await migrate({ pool: admin }); await admin.query(synced) },
    (t, { pool }) => served(t, pool, { migrate: false }, { known: 'skipped' })
  ],
  'smart-sync, `migrate: false`': [
    async ({ admin }) => { await migrate({ pool: admin }); await admin.query(synced) },
    (t, { pool }) => served(t, pool, { migrate: false }, { known: 'performed', new: 'performed' })
  ],
  'smart-sync, `migrate: false`, `createUsers: false`': [
    async ({ admin }) => { await migrate({ pool: admin }); await admin.query(synced) },
    (t, { pool }) => served(t, pool, { migrate: false, createUsers: false }, { known: 'performed' })
  ],
  'smart-sync, the tables in place': [
    async ({ admin }) => { await migrate({ pool: admin }); await admin.query(synced) },
    async (t, { pool }) => {
      await migrate({ pool })
      await served(t, pool, {}, { known: 'performed', new: 'performed' })
    }
  ],
  'smart-sync with webhooks, or `apply()`, `migrate: false`': [
    async ({ admin }) => { await migrate({ pool: admin }); await admin.query(synced) },
    (t, { admin, pool }) => stored(t, admin, pool, 'deactivate')
  ],
  'the same with `deletionPolicy: \'delete\'`': [
    async ({ admin }) => { await migrate({ pool: admin }); await admin.query(synced) },
    (t, { admin, pool }) => stored(t, admin, pool, 'delete')
  ],
  'smart-sync, making the tables': [async () => {}, (t, { pool }) => served(t, pool, {}, { new: 'performed' })],
  'smart-sync, completing a table': [
    ({ admin }) => admin.query('CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text NOT NULL)'),
    (t, { pool }) => served(t, pool, {}, { new: 'performed' })
  ],
  'pool-tuning': [async () => {}, async (t, { url }) => {
    const app = Fastify()
    t.teardown(async () => { await app.close() })
    await app.register(poolTuning, { connectionString: url })
    await app.ready()
    await app.pg.query('SELECT 1')
  }]
}

async function trusted (t: Test, { pool }: Account): Promise<void> {
  const bus = postgresBus({ pool })
  t.teardown(() => bus.close())
  await bus.start({ watches: tableSource(watched).watches!, report: () => {} })
  if (!bus.status().trusted) throw new Error(bus.status().reason)
}

/** Every way to have one right less. */
function lesser (rights: readonly string[]): string[][] {
  return rights.flatMap((right, place) => {
    const others = rights.filter((_, other) => other !== place)
    const parts = /^GRANT ([A-Z]+(?:, [A-Z]+)+) ON (.*)$/.exec(right)
    if (parts === null) return [others]
    const privileges = parts[1]!.split(', ')
    return privileges.map(privilege => [...others, `GRANT ${privileges.filter(other => other !== privilege).join(', ')} ON ${parts[2]!}`])
  })
}

t.test('the rights that each feature needs are enough, and fewer are not', async t => {
  const rows = [...document.slice(document.indexOf('## Rights')).matchAll(/^\| (.+?) \| (.*?) ?\|$/gm)].slice(2)
  t.same(rows.map(([, what]) => what), Object.keys(features))
  for (const [, what, cell] of rows) {
    const rights = [...cell!.matchAll(/`([^`]+)`/g)].map(([, right]) => right!)
    const [prepare, use] = features[what!]!
    for (const [granted, isEnough] of [[rights, true], ...lesser(rights).map(fewer => [fewer, false] as const)] as const) {
      await t.test(`${what!}: ${granted.join('; ') || 'none'}`, async t => {
        const { url } = await testDatabase(t)
        const admin = poolOn(t, url)
        const role = `role_${randomUUID().slice(0, 8)}`
        const account = new URL(url)
        account.username = account.password = role
        // Before PostgreSQL 15 everybody may create in it.
        await admin.query(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'; REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
        t.teardown(async () => { await admin.query(`REASSIGN OWNED BY ${role} TO postgres; DROP OWNED BY ${role}; DROP ROLE ${role}`) })
        const world = { admin, pool: poolOn(t, account.href), url: account.href }
        await prepare(world)
        for (const right of granted) await admin.query(right.replace(/ TO app$/, ` TO ${role}`))
        const outcome = await use(t, world).then(() => null, (error: unknown) => error as Error)
        if (isEnough) t.equal(outcome, null, String(outcome))
        else t.ok(outcome !== null)
      })
    }
  }
})
