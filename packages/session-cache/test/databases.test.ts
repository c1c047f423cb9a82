import { sessionKey, sessionKeyHash, startDeadline, systemClock, type LoadRequest, type UserChange, type WatchedTable } from '@orientor/session-contract/core'
import { oddTypeParsers, testDatabase, until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { postgresBus, tableSource } from '../src/postgres.js'
import { identityOf } from './fixtures/setup.js'
import { hastened, patient, quietPool } from './fixtures/watched-database.js'

const issuer = 'https://id.example.com'

/** How a database is, or is made to be. */
interface Kind {
  /** Of CREATE DATABASE. */
  readonly encoding?: string
  /** Of ALTER DATABASE … SET, for every session that comes later. */
  readonly settings?: readonly string[]
  readonly schema?: string
  /** The schema of the outbox. Default is that schema. */
  readonly outboxSchema?: string
  /** Whether the schema is named, or found by the search path. Default is named. */
  readonly isFound?: boolean
  /** A column that is watched. Default is `email`. */
  readonly column?: string
  /** Default is `ada`. */
  readonly subjects?: readonly string[]
}

const kinds: Readonly<Record<string, Kind>> = {
  'quote_all_identifiers=on': { settings: ['quote_all_identifiers = on'] },
  'quote_all_identifiers=on and a schema that needs it': { settings: ['quote_all_identifiers = on'], schema: 'Mixed Case', column: 'E Mail' },
  'standard_conforming_strings=off': { settings: ['standard_conforming_strings = off', 'escape_string_warning = off', "backslash_quote = 'on'"], schema: 'back\\slash', outboxSchema: 'public' },
  'standard_conforming_strings=off, and a quote in the schema': { settings: ['standard_conforming_strings = off', 'escape_string_warning = off', "backslash_quote = 'on'"], schema: "back\\slash'", outboxSchema: 'public' },
  'serializable transactions, another style of dates and bytes': { settings: ["default_transaction_isolation = 'serializable'", "datestyle = 'German'", "bytea_output = 'escape'", "intervalstyle = 'iso_8601'"] },
  'encoding LATIN1': { encoding: 'LATIN1', column: 'größe', schema: 'überall', subjects: ['ada', 'müller'] },
  'encoding EUC_JP': { encoding: 'EUC_JP', column: '住所', schema: '利用者', subjects: ['ada', '山田'] },
  'encoding SQL_ASCII': { encoding: 'SQL_ASCII', column: 'größe', subjects: ['ada', 'müller'] },
  'a schema with an apostrophe': { schema: "o'brien", outboxSchema: 'public' },
  'a schema with a point': { schema: 'a.b' },
  'a schema with quotation marks and all the rest': { schema: 'a."b" \'c\'; --', outboxSchema: 'öffent"lich' },
  'a schema with an apostrophe and a point, found by the search path': { schema: "o'brien.x", isFound: true, outboxSchema: 'public' }
}

async function makeDatabase (t: Test, { encoding, settings = [], schema = 'public', isFound = false, column = 'email', outboxSchema }: Kind): Promise<string> {
  const { url: first, server } = await testDatabase(t)
  const name = `${new URL(first).pathname.slice(1)}_made`
  const operator = new pg.Client({ connectionString: server.url() })
  await operator.connect()
  await operator.query(`CREATE DATABASE ${name} TEMPLATE template0 LOCALE 'C' ENCODING '${encoding ?? 'UTF8'}'`)
  t.teardown(() => server.dropDatabase(name))
  const path = pg.escapeIdentifier(schema)
  for (const setting of [...settings, ...isFound ? [`search_path = ${path}`] : []]) await operator.query(`ALTER DATABASE ${name} SET ${setting}`)
  await operator.end()
  const url = server.url(name)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(`CREATE SCHEMA IF NOT EXISTS ${path}; CREATE SCHEMA IF NOT EXISTS ${pg.escapeIdentifier(outboxSchema ?? 'public')}; CREATE TABLE ${path}.people (sub text UNIQUE, rev bigint NOT NULL DEFAULT 1, ${pg.escapeIdentifier(column)} text)`)
  await client.end()
  return url
}

for (const [what, kind] of Object.entries(kinds)) {
  t.test(`changes are announced, and proven to be, on a database with ${what}`, async t => {
    const url = await makeDatabase(t, kind)
    const { schema = 'public', isFound = false, column = 'email', subjects = ['ada'] } = kind
    const table: WatchedTable = { ...isFound ? {} : { schema }, table: 'people', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: [column] }
    const people = `${pg.escapeIdentifier(schema)}.people`
    const changes: UserChange[] = []
    const start = async () => {
      const pool = quietPool({ connectionString: url })
      t.teardown(() => pool.end())
      const bus = postgresBus({ pool, ...patient, ...kind.outboxSchema === undefined ? {} : { schema: kind.outboxSchema } })
      bus.subscribe(change => { changes.push(change) })
      await bus.start({ watches: [table], report: () => {} })
      t.teardown(() => bus.close())
      await until('it is trusted', () => bus.status().trusted)
      return bus
    }
    const bus = await start()
    const writer = new pg.Client({ connectionString: url })
    await writer.connect()
    t.teardown(() => writer.end())
    for (const subject of subjects) {
      const keyHash = sessionKeyHash(sessionKey(issuer, subject))
      for (const revision of [1, 2]) {
        if (revision === 1) await writer.query(`INSERT INTO ${people} (sub) VALUES ($1)`, [subject])
        else await writer.query(`UPDATE ${people} SET ${pg.escapeIdentifier(column)} = 'x', rev = 2 WHERE sub = $1`, [subject])
        await until(`revision ${revision} of ${subject}`, () => changes.some(change => change.kind === 'user' && change.keyHash === keyHash && change.revision === revision))
      }
    }
    t.strictSame(changes.length, subjects.length * 2, 'and nothing else')
    const { epoch } = bus.trust
    await writer.query(`ALTER TABLE ${people} DISABLE TRIGGER USER`)
    await until('it is installed anew', () => bus.trust.epoch > epoch && bus.status().trusted)
    // Another instance, with the other spelling of names, finds what is there in order.
    const versions = async (): Promise<unknown> => (await writer.query("SELECT p.oid, p.xmin FROM pg_proc AS p WHERE p.proname LIKE 'orientor%'")).rows
    const before = await versions()
    await writer.query(`ALTER DATABASE ${new URL(url).pathname.slice(1)} SET quote_all_identifiers = ${what.includes('quote_all') ? 'off' : 'on'}`)
    await start()
    t.strictSame(await versions(), before)
  })
}

for (const [what, kind] of Object.entries(kinds)) {
  t.test(`users are read from a table in a database with ${what}, and who cannot be there spoils nobody else's load`, async t => {
    const url = await makeDatabase(t, kind)
    const { schema = 'public', isFound = false, column = 'email', subjects = ['ada'] } = kind
    const pool = new pg.Pool({ connectionString: url })
    pool.on('error', () => {})
    t.teardown(() => pool.end())
    for (const subject of subjects) await pool.query(`INSERT INTO ${pg.escapeIdentifier(schema)}.people VALUES ($1, 1, $2)`, [subject, `${subject}@example.com`])
    const source = tableSource({ ...isFound ? {} : { schema }, table: 'people', subject: 'sub', issuer: { always: issuer }, columns: { userId: 'sub', email: column, revision: 'rev' }, extra: [column], pool })
    await source.ready!()
    const request = (subject: string): LoadRequest => ({ key: sessionKey(issuer, subject), issuer, subject, identity: identityOf(subject) })
    const strangers = ['eve', '𠮷野', 'Łukasz', '🦊', '山']
    const deadline = startDeadline(systemClock, 5000)
    const records = await Promise.all(source.load([...subjects, ...strangers].map(request), deadline))
    deadline.release()
    t.match(records, [
      ...subjects.map(subject => ({ kind: 'active', user: { userId: subject, email: `${subject}@example.com`, extra: { [column]: `${subject}@example.com` } }, revision: 1 })),
      ...strangers.map(() => ({ kind: 'unknown' }))
    ])
  })
}

t.test('nothing that the app sets for all of its process changes what a bus and a table tell', async t => {
  const url = await makeDatabase(t, {})
  oddTypeParsers(t, pg)
  pg.defaults.binary = true
  const pool = quietPool({ connectionString: url })
  t.teardown(() => pool.end())
  const bus = postgresBus({ pool, ...patient, clock: hastened })
  t.teardown(() => bus.close())
  await bus.start({ watches: [{ table: 'people', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'] }], report: () => {} })
  await until('it is trusted', () => bus.status().trusted)
  await until('it is counted', () => bus.status().instances === 1)

  await pool.query("INSERT INTO people VALUES ('ada', 7, 'ada@example.com')")
  await pool.query('ALTER TABLE people ADD active boolean DEFAULT true, ADD seen timestamptz DEFAULT now(), ADD more jsonb DEFAULT \'{"a": 1}\'')
  const source = tableSource({
    table: 'people', subject: 'sub', issuer: { always: issuer }, columns: { userId: 'sub', email: 'email', isActive: 'active', providerUpdatedAt: 'seen', profile: 'more', revision: 'rev' }, extra: ['rev', 'active'], pool
  })
  const deadline = startDeadline(systemClock, 5000)
  const [record] = await Promise.all(source.load([{ key: sessionKey(issuer, 'ada'), issuer, subject: 'ada', identity: identityOf('ada') }], deadline))
  deadline.release()
  t.match(record, { kind: 'active', revision: 7, user: { userId: 'ada', email: 'ada@example.com', profile: { a: 1 }, providerUpdatedAt: Number, extra: { rev: '7', active: true } } })
})
