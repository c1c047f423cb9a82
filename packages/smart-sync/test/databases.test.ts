import { createIdentity, sessionHub, sessionKey, startDeadline, systemClock, type LoadRequest, type UserRecord } from '@orientor/session-contract'
import { oddTypeParsers, testDatabase } from '@orientor/test-kit'
import Fastify from 'fastify'
import pg from 'pg'
import t, { type Test } from 'tap'
import { defaultClaimNames } from '../src/claims-profile.js'
import { migrate } from '../src/migrate.js'
import { observe } from '../src/observation.js'
import { smartSync } from '../src/index.js'
import { PostgresUserStore } from '../src/postgres-user-store.js'
import { SmartDatabaseSync } from '../src/smart-database-sync.js'
import { defaultTableNames, tableNames, type TableNames } from '../src/table-names.js'
import { isUnholdable, unholdableText } from '../src/unholdable-text.js'
import { profileUpdate } from '../src/user-update.js'

const issuer = 'https://idp.example'

/** How a database is, or is made to be. */
interface Kind {
  /** Of CREATE DATABASE. */
  readonly encoding?: string
  /** Of ALTER DATABASE … SET, for every session that comes later. */
  readonly settings?: readonly string[]
  /** Default is `public`. */
  readonly schema?: string
  /** Whether the schema is named in the option `tables`, or found by the search path. Default is found. */
  readonly isNamed?: boolean
}

const kinds: Readonly<Record<string, Kind>> = {
  'quote_all_identifiers=on': { settings: ['quote_all_identifiers = on'] },
  'quote_all_identifiers=on and a schema that needs quotes': { settings: ['quote_all_identifiers = on'], schema: 'Mixed Case', isNamed: true },
  'standard_conforming_strings=off': { settings: ['standard_conforming_strings = off', 'escape_string_warning = off'], schema: "back\\slash'", isNamed: true },
  'serializable transactions, another style of dates and bytes': { settings: ["default_transaction_isolation = 'serializable'", "datestyle = 'German'", "bytea_output = 'escape'", "timezone = 'Asia/Kathmandu'"] },
  'encoding LATIN1': { encoding: 'LATIN1' },
  'encoding EUC_JP': { encoding: 'EUC_JP' },
  'encoding SQL_ASCII': { encoding: 'SQL_ASCII' },
  'a schema with an apostrophe': { schema: "o'brien", isNamed: true },
  'a schema with points': { schema: 'a.b.c', isNamed: true },
  'a schema with quotation marks and all the rest': { schema: '100% a."b" \'c\' {{users}}; --', isNamed: true },
  'a schema with an apostrophe and a point, found by the search path': { schema: "o'brien.x" }
}

interface World { readonly url: string, readonly pool: pg.Pool, readonly tables: TableNames }

async function world (t: Test, { encoding, settings = [], schema = 'public', isNamed = false }: Kind): Promise<World> {
  const { url: first, server } = await testDatabase(t)
  const name = `${new URL(first).pathname.slice(1)}_made`
  const operator = new pg.Client({ connectionString: server.url() })
  await operator.connect()
  await operator.query(`CREATE DATABASE ${name} TEMPLATE template0 LOCALE 'C' ENCODING '${encoding ?? 'UTF8'}'`)
  t.teardown(() => server.dropDatabase(name))
  const path = pg.escapeIdentifier(schema)
  for (const setting of [...settings, ...isNamed ? [] : [`search_path = ${path}`]]) await operator.query(`ALTER DATABASE ${name} SET ${setting}`)
  await operator.end()
  const url = server.url(name)
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  pool.on('error', () => {})
  t.teardown(() => pool.end())
  await pool.query(`CREATE SCHEMA IF NOT EXISTS ${path}`)
  return { url, pool, tables: isNamed ? tableNames.accept({ users: `${schema}.users` })! : defaultTableNames }
}

function syncOn ({ pool, tables }: World, told: string[] = []): SmartDatabaseSync {
  const store = new PostgresUserStore({ pool: () => pool, tables, clock: systemClock, random: () => 0, onUnholdable: text => { told.push(text) } })
  return new SmartDatabaseSync({ store, provider: null, claims: defaultClaimNames, forceSyncAfterMs: 3_600_000, parseProfile: null, clock: systemClock })
}

function request (subject: string, claims: object = {}): LoadRequest {
  return { key: sessionKey(issuer, subject), issuer, subject, identity: createIdentity({ issuer, subject, claims: { ...claims } }), force: true }
}

async function load (sync: SmartDatabaseSync, ...requests: readonly LoadRequest[]): Promise<UserRecord[]> {
  const deadline = startDeadline(systemClock, 10_000)
  try {
    return await Promise.all(sync.load(requests, deadline))
  } finally {
    deadline.release()
  }
}

for (const [what, kind] of Object.entries(kinds)) {
  t.test(`tables are made, kept in step and taken back in a database with ${what}`, async t => {
    const made = await world(t, kind)
    const { pool, tables } = made
    const applied = await migrate({ pool, tables })
    t.ok(applied.includes('1.do.users'))
    t.strictSame(await migrate({ pool, tables }), [], 'there is nothing to do')
    const sync = syncOn(made)
    const claims = { given_name: 'Ada', family_name: "O'Neil", email: 'ada@example.com' }
    t.match(await load(sync, request('ada', claims)), [{ kind: 'active', revision: 1, sync: 'performed', user: { firstName: 'Ada', lastName: "O'Neil" } }])
    t.match(await load(sync, request('ada', { ...claims, given_name: 'Augusta', updated_at: 1_700_000_000 })), [{ revision: 2, user: { firstName: 'Augusta', providerUpdatedAt: 1_700_000_000_000 } }])
    t.match(await load(syncOn(made), request('ada'), request('bob')), [{ user: { firstName: 'Augusta' } }, { sync: 'performed' }])
    t.strictSame(await migrate({ pool, tables, to: 0 }), applied.map(name => name.replace('.do.', '.undo.')).toReversed())
    t.strictSame((await pool.query("SELECT relname FROM pg_class WHERE relname LIKE '%users%' AND relkind = 'r' AND relnamespace > 16383")).rows, [])
  })
}

for (const [encoding, there, lacks] of [['LATIN1', 'Müller', 'Łukasz'], ['EUC_JP', '山田', '𠮷野'], ['EUC_JP', '山田', '🦊'], ['SQL_ASCII', 'Müller 山田', null]] as const) {
  t.test(`in a ${encoding} database a name that the encoding lacks (${lacks}) is left out, and spoils nobody else's login`, async t => {
    const made = await world(t, { encoding })
    await migrate({ pool: made.pool })
    const told: string[] = []
    const sync = syncOn(made, told)
    t.match(await load(sync, request('there', { given_name: there })), [{ user: { firstName: there } }])
    if (lacks === null) return
    const records = await load(sync, request('a', { given_name: 'A' }), request('b', { given_name: lacks, family_name: there, email: 'b@example.com' }), request('c', { given_name: there }))
    t.match(records, [
      { kind: 'active', user: { firstName: 'A' } },
      { kind: 'active', sync: 'performed', user: { firstName: null, lastName: there, email: 'b@example.com' } },
      { kind: 'active', user: { firstName: there } }
    ])
    t.strictSame(told.splice(0), ['firstName'])
    t.match(await load(sync, request('b', { given_name: lacks, family_name: there, email: 'b@example.com' })), [{ sync: 'skipped', revision: 1 }], 'and is no news the next time')
    t.match(await load(sync, request('d', { given_name: lacks, family_name: lacks, email: `${lacks}@example.com` })), [{ kind: 'active', user: { firstName: null, lastName: null, email: null } }])
    t.strictSame(told.splice(0).toSorted(), ['email', 'firstName', 'lastName'])

    // Nobody can be called that here; the others of the batch are who they are.
    t.match(await load(sync, request('a'), request(lacks, { given_name: 'X' }), request('there'), request(there)), [
      { kind: 'active', user: { firstName: 'A' } }, { kind: 'unknown' }, { kind: 'active' }, { kind: 'active', sync: 'performed', user: { subject: there } }
    ])
    t.strictSame(told, ['key'])
    t.match(sync.stats.snapshot(), { errors: 1, errorsByReason: { refused: 1 } })
  })
}

t.test('a profile of the provider that the encoding lacks a letter of is left out whole', async t => {
  const made = await world(t, { encoding: 'LATIN1' })
  await migrate({ pool: made.pool })
  const told: string[] = []
  const store = new PostgresUserStore({ pool: () => made.pool, clock: systemClock, random: () => 0, onUnholdable: text => { told.push(text) } })
  const deadline = startDeadline(systemClock, 5000)
  t.teardown(() => { deadline.release() })
  const profile = { email: null, firstName: 'A', lastName: null, blocked: false, data: { city: '東京' } }
  t.match(await store.write([profileUpdate(observe(issuer, 'a', profile, 1_700_000_000_000, true))], { syncedAtMs: null, creates: true }, deadline), { kind: 'done' })
  t.strictSame(told, ['data'])
  t.match([...(await store.find([request('a')], deadline)).users.values()], [{ firstName: 'A', profile: null }])
})

t.test('over HTTP such a user comes in, or is told to be nobody, and the log says why, once and without the name', async t => {
  const { pool } = await world(t, { encoding: 'LATIN1' })
  const lines: string[] = []
  const app = Fastify({ logger: { level: 'warn', stream: { write: line => { lines.push(line) } } } })
  t.teardown(() => app.close())
  sessionHub(app).fill('identify', 'gateway', request => {
    const subject = decodeURIComponent(String(request.headers['x-user']))
    return createIdentity({ issuer, subject, claims: { given_name: 'Łukasz', family_name: 'Müller' } })
  })
  app.register(smartSync, { pool })
  app.get('/me', { config: { session: { required: true } } }, async request => request.sessionUser)
  const ask = async (subject: string) => await app.inject({ url: '/me', headers: { 'x-user': encodeURIComponent(subject) } })
  for (const subject of ['ada', 'bob']) t.match((await ask(subject)).json(), { subject, firstName: null, lastName: 'Müller' })
  t.equal((await ask('山田')).statusCode, 401)
  t.equal((await ask('川')).statusCode, 401)
  t.match(lines.filter(line => line.includes('encoding')), [/lacks letters of a user's firstName, which was left out\. Keep users in a database with the encoding UTF8/, /such users are unknown here/])
  t.notMatch(lines.join(), /Łukasz|山田/)
})

t.test('where PostgreSQL does not say which text it cannot hold, one after another is left out', async t => {
  const profile = { email: 'a@b.c', firstName: 'Łukasz', lastName: null, blocked: false, data: { city: '東京' } }
  const silent = { code: '22P05' }
  t.ok(isUnholdable(silent))
  for (const other of [null, undefined, { code: '22001' }]) t.notOk(isUnholdable(other))
  t.equal(unholdableText(silent, profile), 'firstName')
  t.equal(unholdableText(silent, { ...profile, firstName: null }), 'data')
  t.equal(unholdableText(silent, { ...profile, firstName: null, data: null }), 'key')
  t.equal(unholdableText({ ...silent, where: 'unnamed portal parameter $2' }, profile), 'key')
  t.equal(unholdableText({ ...silent, where: 'Parameter $5 des unbenannten Portals' }, profile), 'lastName')
  t.equal(unholdableText({ ...silent, where: 'unnamed portal parameter $11' }, profile), null, 'what the app supplies is not ours to leave out')
})

t.test('nothing that the app sets for all of its process changes what the tables say', async t => {
  oddTypeParsers(t, pg)
  for (const binary of [false, true]) {
    pg.defaults.binary = binary
    const made = await world(t, {})
    const { pool } = made
    const applied = await migrate({ pool, extra: ['revision'] })
    t.ok(applied.includes('1.do.users'))
    t.strictSame(await migrate({ pool, extra: ['revision'] }), [])
    const sync = syncOn(made)
    t.match(await load(sync, request('ada', { given_name: 'Ada', updated_at: 1_700_000_000 })), [{ kind: 'active', revision: 1, sync: 'performed', user: { userId: '1', firstName: 'Ada', providerUpdatedAt: 1_700_000_000_000 } }])
    t.match(sync.stats.snapshot(), { profileCreates: 1 })
    await pool.query("UPDATE users SET is_active = false, revoked_sessions = '{\"a\": 1}'")
    t.match(await load(sync, request('ada')), [{ kind: 'inactive', revision: 2 }])
    t.strictSame(await migrate({ pool, to: 0 }), applied.map(name => name.replace('.do.', '.undo.')).toReversed())
  }
})
