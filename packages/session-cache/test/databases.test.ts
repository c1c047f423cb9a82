import { sessionKey, sessionKeyHash, type UserChange, type WatchedTable } from '@orientor/session-contract/core'
import { testDatabase, until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { postgresBus } from '../src/postgres.js'
import { patient } from './fixtures/watched-database.js'

const issuer = 'https://id.example.com'

/** How a database is, or is made to be. */
interface Kind {
  /** Of CREATE DATABASE. */
  readonly encoding?: string
  /** Of ALTER DATABASE … SET, for every session that comes later. */
  readonly settings?: readonly string[]
  readonly schema?: string
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
  'standard_conforming_strings=off': { settings: ['standard_conforming_strings = off', 'escape_string_warning = off', "backslash_quote = 'on'"], schema: "back\\slash'" },
  'serializable transactions, another style of dates and bytes': { settings: ["default_transaction_isolation = 'serializable'", "datestyle = 'German'", "bytea_output = 'escape'", "intervalstyle = 'iso_8601'"] },
  'encoding LATIN1': { encoding: 'LATIN1', column: 'größe', schema: 'überall', subjects: ['ada', 'müller'] },
  'encoding EUC_JP': { encoding: 'EUC_JP', column: '住所', schema: '利用者', subjects: ['ada', '山田'] },
  'encoding SQL_ASCII': { encoding: 'SQL_ASCII', column: 'größe', subjects: ['ada', 'müller'] },
  'a schema with an apostrophe': { schema: "o'brien" },
  'a schema with a point': { schema: 'a.b' },
  'a schema with quotation marks and all the rest': { schema: 'a."b" \'c\'; --' },
  'a schema with an apostrophe and a point, found by the search path': { schema: "o'brien.x", isFound: true }
}

async function makeDatabase (t: Test, { encoding, settings = [], schema = 'public', isFound = false, column = 'email' }: Kind): Promise<string> {
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
  await client.query(`CREATE SCHEMA IF NOT EXISTS ${path}; CREATE TABLE ${path}.people (sub text UNIQUE, rev bigint NOT NULL DEFAULT 1, ${pg.escapeIdentifier(column)} text)`)
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
      const bus = postgresBus({ listenUrl: url, ...patient })
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
      await writer.query(`INSERT INTO ${people} (sub) VALUES ($1)`, [subject])
      await writer.query(`UPDATE ${people} SET ${pg.escapeIdentifier(column)} = 'x', rev = 2 WHERE sub = $1`, [subject])
      const keyHash = sessionKeyHash(sessionKey(issuer, subject))
      for (const revision of [1, 2]) await until(`revision ${revision} of ${subject}`, () => changes.some(change => change.kind === 'user' && change.keyHash === keyHash && change.revision === revision))
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

t.test('nothing that the app sets for all of its process changes what a bus finds', async t => {
  const url = await makeDatabase(t, {})
  const types = [16, 19, 20, 23, 25, 114, 701, 1009, 1184, 3802]
  const kept = types.map(type => [type, pg.types.getTypeParser(type)] as const)
  for (const type of types) pg.types.setTypeParser(type, () => ({ odd: true }))
  pg.defaults.binary = true
  t.teardown(() => {
    for (const [type, parser] of kept) pg.types.setTypeParser(type, parser)
    pg.defaults.binary = false
  })
  const bus = postgresBus({ listenUrl: url, ...patient })
  t.teardown(() => bus.close())
  await bus.start({ watches: [{ table: 'people', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'] }], report: () => {} })
  await until('it is trusted', () => bus.status().trusted)
  t.match(bus.status(), { trusted: true, instances: 1 })
})
