import { setTimeout as pause } from 'node:timers/promises'
import { testDatabase, until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { askFor, ownTableSql, startService, type Service, type SourceKind } from './fixtures/service.js'

const users = Array.from({ length: 20 }, (_, number) => `user-${number}`)
const refusedMs = 1500

/** What an operator does, and undoes; SQL at the database of the test. `ends`: sessions that are open have to end before anybody notices. */
interface Refusal {
  readonly code: string
  /** For how long. Default is refusedMs. */
  readonly lastsMs?: number
  readonly ends: boolean
  /** What has to be in place before the service starts; SQL. */
  readonly prepare?: (names: Names) => string
  /** The only source that it is about. Default is both. */
  readonly source?: SourceKind
  readonly refuse: (names: Names) => string
  readonly mend: (names: Names) => string
}
interface Names { readonly role: string, readonly database: string }

const refusals: Readonly<Record<string, Refusal>> = {
  NOLOGIN: { code: '28000', ends: true, refuse: ({ role }) => `ALTER ROLE ${role} NOLOGIN`, mend: ({ role }) => `ALTER ROLE ${role} LOGIN` },
  'ALLOW_CONNECTIONS false': {
    code: '55000',
    ends: true,
    refuse: ({ database }) => `ALTER DATABASE ${database} ALLOW_CONNECTIONS false`,
    mend: ({ database }) => `ALTER DATABASE ${database} ALLOW_CONNECTIONS true`
  },
  'a changed password': { code: '28P01', ends: true, refuse: ({ role }) => `ALTER ROLE ${role} PASSWORD 'another'`, mend: ({ role }) => `ALTER ROLE ${role} PASSWORD '${role}'` },
  'a password that has run out': { code: '28P01', ends: true, refuse: ({ role }) => `ALTER ROLE ${role} VALID UNTIL '2020-01-01'`, mend: ({ role }) => `ALTER ROLE ${role} VALID UNTIL 'infinity'` },
  'REVOKE CONNECT': {
    code: '42501',
    ends: true,
    refuse: ({ role, database }) => `REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC, ${role}`,
    mend: ({ role, database }) => `GRANT CONNECT ON DATABASE ${database} TO ${role}`
  },
  'a database of another name': {
    code: '3D000',
    ends: true,
    refuse: ({ database }) => `ALTER DATABASE ${database} RENAME TO ${database}_gone`,
    mend: ({ database }) => `ALTER DATABASE ${database}_gone RENAME TO ${database}`
  },
  'SELECT that is lost': { code: '42501', ends: false, refuse: ({ role }) => `ALTER TABLE users OWNER TO postgres; REVOKE ALL ON users FROM ${role}`, mend: ({ role }) => `ALTER TABLE users OWNER TO ${role}` },
  'SELECT that is lost, on a server that lists parameters in its errors': {
    code: '42501',
    ends: false,
    prepare: ({ role }) => `ALTER ROLE ${role} SET log_parameter_max_length_on_error = -1`,
    refuse: ({ role }) => `ALTER TABLE users OWNER TO postgres; REVOKE ALL ON users FROM ${role}`,
    mend: ({ role }) => `ALTER TABLE users OWNER TO ${role}`
  },
  'a table that is absent': { code: '42P01', lastsMs: 4000, ends: false, refuse: () => 'ALTER TABLE users RENAME TO users_gone', mend: () => 'ALTER TABLE users_gone RENAME TO users' },
  'a column that is absent': { code: '42703', ends: false, refuse: () => 'ALTER TABLE users RENAME COLUMN first_name TO gone', mend: () => 'ALTER TABLE users RENAME COLUMN gone TO first_name' },
  'a schema that is absent, of a type': {
    code: '3F000',
    ends: false,
    source: 'tableSource()',
    prepare: ({ role }) => `CREATE SCHEMA types; GRANT USAGE ON SCHEMA types TO ${role}; CREATE EXTENSION citext SCHEMA types; ALTER TABLE users ALTER COLUMN clerk_user_id TYPE types.citext`,
    refuse: () => 'ALTER SCHEMA types RENAME TO gone',
    mend: () => 'ALTER SCHEMA gone RENAME TO types'
  },
  'a schema that is absent': { code: '42P01', ends: false, refuse: () => 'ALTER SCHEMA public RENAME TO gone', mend: () => 'ALTER SCHEMA gone RENAME TO public' }
}

interface World {
  readonly service: Service
  readonly names: Names
  /** Runs SQL in the database, or past it. Whoever renames a database, or lets nobody in, must not be connected to it. */
  run (sql: string): Promise<void>
  /** Ends every session of the database. */
  end (): Promise<void>
}

async function once (connectionString: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  await client.query(sql).finally(() => client.end())
}

/** A service whose role is an ordinary one that owns its tables, and knows its users. */
async function world (t: Test, source: SourceKind, stock: boolean, prepare?: Refusal['prepare']): Promise<World> {
  const { url: ownerUrl, server } = await testDatabase(t)
  const url = new URL(ownerUrl)
  const database = url.pathname.slice(1)
  const role = `role_${database}`
  const operator = new pg.Client({ connectionString: server.url() })
  await operator.connect()
  t.teardown(async () => {
    await once(ownerUrl, `DROP OWNED BY ${role}; DROP ROLE ${role}`)
    await operator.end()
  })
  await once(ownerUrl, `CREATE ROLE ${role} LOGIN PASSWORD '${role}'; GRANT ALL ON SCHEMA public TO ${role}`)
  if (source !== 'smart-sync') await once(ownerUrl, `${ownTableSql(users.length)}; ALTER TABLE users OWNER TO ${role}`)
  if (prepare !== undefined) await once(ownerUrl, prepare({ role, database }))
  url.username = role
  url.password = role
  const pool = new pg.Pool({ connectionString: url.href, max: 5 })
  pool.on('error', () => {})
  pool.on('connect', client => { client.on('error', () => {}) })
  t.teardown(() => pool.end())
  const service = await startService(t, { source, url: url.href, expireAfterMs: 100, ...stock ? { pool } : { tuning: { size: 3, overflow: 2 } } })
  for (const user of users) t.equal((await service.ask(user)).status, 200)
  return {
    service,
    names: { role, database },
    run: async sql => {
      if (/ALTER (?:TABLE|SCHEMA)/.test(sql)) await once(ownerUrl, sql)
      else await operator.query(sql)
    },
    end: async () => {
      await operator.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", [database])
    }
  }
}

async function survive (t: Test, what: string, { code, lastsMs = refusedMs, ends, prepare, refuse, mend }: Refusal, source: SourceKind, stock: boolean): Promise<void> {
  const { service, names, run, end } = await world(t, source, stock, prepare)
  // A database that has sessions cannot be renamed; others come while the first are ended.
  const renamed = async (): Promise<boolean> => await end().then(() => run(refuse(names))).then(() => true, (error: { code: string }) => {
    if (error.code !== '55006') throw error
    return false
  })
  await until('it is refused', renamed)
  // Whoever was being let in when it was refused is seen a moment later.
  for (const waitMs of ends ? [50, 50, 50, 50] : []) await end().then(() => pause(waitMs))
  const known = askFor(service, users, 10)
  const strangers = askFor(service, Array.from({ length: 2000 }, (_, number) => `stranger-${number}`), 100)
  const isSynced = source === 'smart-sync'
  const reason = new RegExp(`PostgreSQL refuses(?: the source)?: .* \\(${code}\\)|being probed`)
  for (const component of isSynced ? ['databaseSync', 'sessionCache'] : ['sessionCache']) {
    await until(`the health of ${component} says so`, async () => {
      // A session that was let in a moment ago goes on.
      if (ends) await end()
      const health = await service.health(component)
      return health.status === 'unhealthy' && reason.test(health.reason)
    })
  }
  await pause(lastsMs)
  const answers = { known: await known.stop(), strangers: await strangers.stop() }
  await run(mend(names))
  const mendedAtMs = performance.now()
  await until('a known user is fresh', async () => {
    const { status, stale } = await service.ask(users[0]!)
    return status === 200 && !stale
  })
  const freshMs = Math.round(performance.now() - mendedAtMs)
  await until('strangers are known or not', async () => (await service.ask('late')).status === (isSynced ? 200 : 401))
  await until('it is healthy', async () => (await service.health('sessionCache')).status === 'healthy' && (!isSynced || (await service.health('databaseSync')).status === 'healthy'))

  const failed = answers.known.filter(({ status }) => status !== 200)
  const told = service.log.filter(({ level, msg }) => level === 50 && msg.includes('refuses'))
  t.comment(JSON.stringify({
    injected: `${what} for ${lastsMs / 1000} s`,
    seen: `${answers.known.length} requests of known users, ${answers.known.filter(({ stale }) => stale).length} marked; ${answers.strangers.length} of strangers; ${told.length} errors logged`,
    reached: `${failed.length} failed, fresh ${freshMs} ms after it was mended`
  }))
  t.strictSame(failed, [])
  t.ok(answers.known.slice(50).every(({ stale }) => stale), 'marked stale')
  t.strictSame([...new Set(answers.strangers.map(({ status }) => status))], [503])
  t.ok(told.length >= 1 && told.length <= 3, 'bounded')
  t.match(told[0], { code, msg: new RegExp(`(?:smart-sync|tableSource\\(\\)): PostgreSQL refuses to .*: .* \\(${code}\\)\\. A cache in front serves the users it knows, marked stale\\. [A-Z]`), err: { message: String } })
  const turnedAway = service.log.filter(({ msg }) => msg === 'session unavailable')
  t.ok(turnedAway.length > 0 && turnedAway.every(({ err }) => String((err as { readonly message: string }).message).includes('PostgreSQL refuses')), 'each refusal is logged with its cause')
  t.ok(service.log.some(({ level, msg }) => level === 30 && msg.includes('does not refuse to read users any more')), 'that it is over is told')
}

for (const [what, refusal] of Object.entries(refusals)) {
  for (const [source, stock] of [['smart-sync', false], ['smart-sync', true], ['tableSource()', false], ['tableSource()', true]] as const) {
    if (source !== (refusal.source ?? source)) continue
    t.test(`with ${what}, known users of ${source} are served, marked stale, and strangers are told so, on ${stock ? 'a stock pool' : 'a tuned pool'}`, t => survive(t, what, refusal, source, stock))
  }
}
