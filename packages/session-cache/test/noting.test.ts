import { createHash } from 'node:crypto'
import { sessionKey, sessionKeyHash, type WatchedTable } from '@orientor/session-contract/core'
import { testDatabase } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { outboxSql } from '../src/postgres.js'

const issuer = 'https://issuer.test'
const people: WatchedTable = { table: 'people', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email', 'profile'] }
const peopleColumns = 'sub text, rev bigint NOT NULL DEFAULT 1, email text, profile json, seen timestamptz'
const changes = 'public.orientor_outbox_changes'

interface Noting {
  sql (text: string, values?: unknown[]): Promise<pg.QueryResult>
  /** The changes that were committed since the last call, in the order of their insertion: `hash rev`, `hash`, `*`. */
  noted (): Promise<string[]>
  /** The number of notes that were committed since the last call, by kind. */
  counted (): Promise<{ users: number, all: number }>
}

/** A database with a table `people` that is noted in an outbox, whatever an update sets. */
async function noting (t: Test, watch: Partial<WatchedTable> = {}, table = `CREATE TABLE people (${peopleColumns})`): Promise<Noting> {
  const { url } = await testDatabase(t)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  await client.query(table)
  await client.query(outboxSql([{ ...people, ...watch }], { columnLists: false }))
  const reader = new pg.Client({ connectionString: url })
  await reader.connect()
  t.teardown(() => reader.end())
  const taken = async (): Promise<Array<{ hash: string | null, revision: string | null }>> => (await reader.query(`
    WITH gone AS (DELETE FROM ${changes} RETURNING ctid, xid, key_hash, revision)
    SELECT encode(key_hash, 'hex') AS hash, revision FROM gone ORDER BY xid, ctid`)).rows
  return {
    sql: (text, values) => client.query(text, values),
    noted: async () => (await taken()).map(({ hash, revision }) => hash === null ? '*' : revision === null ? hash : `${hash} ${revision}`),
    counted: async () => {
      const rows = await taken()
      const users = rows.filter(({ hash }) => hash !== null).length
      return { users, all: rows.length - users }
    }
  }
}

const hashOf = (sub: string): string => sessionKeyHash(sessionKey(issuer, sub))
const note = (sub: string, revision?: number): string => revision === undefined ? hashOf(sub) : `${hashOf(sub)} ${revision}`
/** Transactions that are older count their notes. */
const grownUp = 'SELECT pg_sleep(0.011)'

for (const exactRevision of [false, true]) {
  t.test(`Each change notes its users, once and by the right revision${exactRevision ? ', which is exact' : ''}`, async t => {
    const { sql, noted } = await noting(t, { exactRevision })
    const after = async (text: string): Promise<string[]> => {
      await sql(text)
      return await noted()
    }
    for (const begin of ['', `BEGIN; ${grownUp};`]) {
      const end = begin === '' ? '' : '; COMMIT'
      const did = (text: string): Promise<string[]> => after(`${begin} ${text}${end}`)
      t.same(await did("INSERT INTO people (sub, rev) VALUES ('a', 1), ('b', 7)"), [note('a', 1), note('b', 7)])
      t.same(await did("UPDATE people SET email = 'x', rev = rev + 1 WHERE sub = 'a'"), [note('a', 2)])
      t.same(await did("UPDATE people SET email = 'x' WHERE sub = 'a'"), [], 'of nothing')
      t.same(await did("UPDATE people SET seen = now() WHERE sub = 'a'"), [], 'of what is not watched')
      // Where the revision is said to tell of a change, and it is not so, that costs a note at most.
      const grown = await did("UPDATE people SET seen = now(), rev = rev + 1 WHERE sub = 'a'")
      t.same(grown.filter(one => !exactRevision || one !== note('a', 3)), [], 'of the revision')
      t.same(await did("UPDATE people SET email = 'y' WHERE sub = 'a'"), [note('a')], 'a revision that did not grow')
      t.same(await did("UPDATE people SET email = 'z', rev = rev - 1 WHERE sub = 'a'"), [note('a')], 'a revision that fell')
      t.same(await did("UPDATE people SET email = 'n', rev = -5 WHERE sub = 'a'"), [note('a')])
      t.same(await did("UPDATE people SET email = 'm', rev = -4 WHERE sub = 'a'"), [note('a')], 'a revision below 1')
      t.same(await did("UPDATE people SET email = 'p', rev = 9 WHERE sub = 'a'"), [note('a', 9)])
      t.same(await did("UPDATE people SET profile = '{}', rev = rev + 1 WHERE sub = 'b'"), [note('b', 8)], 'a type without equality')
      t.same(await did("UPDATE people SET sub = 'c', rev = rev + 1 WHERE sub = 'b'"), [note('b'), note('c')], 'a key that changed')
      t.same(await did("DELETE FROM people WHERE sub = 'c'"), [note('c')])
      t.same(await did("INSERT INTO people (sub, rev) VALUES (NULL, 3), ('g', 0)"), [note('g')], 'none, and no revision')
      t.same(await did("UPDATE people SET sub = 'd', rev = 5 WHERE sub IS NULL"), [note('d', 5)])
      t.same(await did("UPDATE people SET sub = NULL, rev = 6 WHERE sub = 'd'"), [note('d')])
      t.same(await did('UPDATE people SET email = \'q\', rev = 7 WHERE sub IS NULL'), [], 'a user without a key')
      t.same(await did('DELETE FROM people WHERE sub IS NULL'), [])
      t.same(await did('TRUNCATE people'), ['*'])
      t.same(await after("BEGIN; INSERT INTO people (sub) VALUES ('e'); ROLLBACK"), [])
      await sql('SET session_replication_role = replica')
      t.same(await did("INSERT INTO people (sub, rev) VALUES ('f', 1)"), [note('f', 1)], 'whatever the replication role')
      t.same(await did("UPDATE people SET email = 'r', rev = 2 WHERE sub = 'f'"), [note('f', 2)])
      await sql('RESET session_replication_role; DELETE FROM people')
      await noted()
    }
    for (const sub of ['o\'brien', '"quoted"', 'back\\slash', 'Grüße 🎈', ' leading', '*', '$1', 'a'.repeat(255)]) {
      await sql('INSERT INTO people (sub, rev) VALUES ($1, 3)', [sub])
      await sql("UPDATE people SET email = 'new', rev = 4 WHERE sub = $1", [sub])
      t.same(await noted(), [note(sub, 3), note(sub, 4)])
    }
  })
}

t.test('A table without revisions notes keys alone, and one with its own issuers the keys of both', async t => {
  const bare = await noting(t, { revision: null })
  await bare.sql("INSERT INTO people (sub) VALUES ('a'); UPDATE people SET email = 'x'; UPDATE people SET email = 'x'; DELETE FROM people")
  t.same(await bare.noted(), [note('a'), note('a'), note('a')])

  const odd = { revision: 'OLD', issuer: 'ISS %I', subject: "s'ub", columns: ['new row'] }
  const { sql, noted } = await noting(
    t, odd, 'CREATE TABLE people ("ISS %I" varchar(99), "s\'ub" char(3), "OLD" int, "new row" point)'
  )
  const other = createHash('sha256').update('https://other.test abc').digest('hex')
  await sql(`INSERT INTO people VALUES ('${issuer}', 'abc', 5, '(1,2)')`)
  t.same(await noted(), [note('abc', 5)])
  await sql('UPDATE people SET "new row" = \'(3,4)\', "OLD" = 6')
  t.same(await noted(), [note('abc', 6)])
  await sql('UPDATE people SET "ISS %I" = \'https://other.test\', "OLD" = 7')
  t.same(await noted(), [note('abc'), other], 'the issuer alone changed')
})

t.test('Keys that a collation takes for equal are two', async t => {
  const { sql, noted } = await noting(t, {}, `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
    CREATE TABLE people (${peopleColumns.replace('sub text', 'sub text COLLATE loose')})`)
  await sql("INSERT INTO people (sub) VALUES ('ada')")
  await noted()
  await sql("UPDATE people SET sub = 'ADA', rev = 2")
  t.same(await noted(), [note('ada'), note('ADA')])
})

t.test('What cannot be computed notes that all may have changed, once a transaction, and the write goes through', async t => {
  for (const broken of [
    'ALTER TABLE people DROP COLUMN email',
    'ALTER TABLE people RENAME COLUMN sub TO subject',
    'ALTER TABLE people DROP COLUMN rev',
    "ALTER TABLE people ALTER COLUMN rev DROP DEFAULT, ALTER COLUMN rev TYPE text USING 'one'",
    "ALTER TABLE people ALTER COLUMN rev DROP DEFAULT, ALTER COLUMN rev TYPE json USING '{}'"
  ]) {
    const { sql, noted } = await noting(t)
    await sql("INSERT INTO people (sub) VALUES ('a'), ('b')")
    await noted()
    await sql(broken)
    await sql('UPDATE people SET profile = \'{"a": 1}\'')
    t.same(await noted(), ['*'], `${broken}: an update of two`)
    t.equal((await sql('SELECT FROM people WHERE profile IS NOT NULL')).rowCount, 2)
    await sql('BEGIN; DELETE FROM people')
    await sql('COMMIT')
    t.same(await noted(), broken.includes('subject') ? ['*'] : [note('a'), note('b')], 'a deletion needs the key alone')
  }
})

t.test('A note that cannot be inserted fails the write', async t => {
  const { sql, noted } = await noting(t)
  await sql("INSERT INTO people (sub) VALUES ('a'), ('b')")
  await noted()
  await sql(`ALTER TABLE ${changes} ADD CONSTRAINT full_disk CHECK (false) NOT VALID`)
  for (const write of [
    "INSERT INTO people (sub) VALUES ('c')",
    "UPDATE people SET email = 'x', rev = rev + 1 WHERE sub = 'a'",
    "UPDATE people SET email = 'x' WHERE sub = 'a'",
    "UPDATE people SET sub = 'd' WHERE sub = 'a'",
    'DELETE FROM people',
    'TRUNCATE people'
  ]) await t.rejects(sql(write), { code: '23514' }, write)
  await sql('ALTER TABLE people DROP COLUMN email')
  await t.rejects(sql("UPDATE people SET profile = '1'"), { code: '23514' }, 'nor is that noted for all')
  await sql(`ALTER TABLE ${changes} DROP CONSTRAINT full_disk`)
  t.same((await sql('SELECT sub FROM people ORDER BY sub')).rows, [{ sub: 'a' }, { sub: 'b' }])
  t.same(await noted(), [])
})

t.test('A writer needs no right to the outbox, and a path of its own leads nowhere else', async t => {
  const { sql, noted } = await noting(t, { exactRevision: true })
  await sql('CREATE ROLE writer; CREATE SCHEMA mine AUTHORIZATION writer; GRANT INSERT, UPDATE, SELECT, DELETE ON people TO writer')
  t.teardown(() => sql('DROP OWNED BY writer; DROP ROLE writer'))
  await sql(`SET ROLE writer; SET search_path = mine, public, pg_catalog;
    CREATE FUNCTION mine.sha256 (bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$;
    CREATE FUNCTION mine.pg_current_xact_id () RETURNS xid8 LANGUAGE sql AS $$ SELECT '1'::xid8 $$;
    CREATE FUNCTION mine.never (int8, int8) RETURNS boolean LANGUAGE sql AS 'SELECT false';
    CREATE OPERATOR mine.> (LEFTARG = int8, RIGHTARG = int8, FUNCTION = mine.never);
    CREATE TEMPORARY TABLE orientor_outbox_changes (xid xid8, key_hash bytea, revision bigint)`)
  await sql("INSERT INTO people (sub, rev) VALUES ('a', 1); UPDATE people SET email = 'x', rev = 2; DELETE FROM people")
  await t.rejects(sql(`INSERT INTO ${changes} (xid) VALUES ('1')`), { code: '42501' })
  await sql('RESET ROLE; RESET search_path')
  t.same(await noted(), [note('a', 1), note('a', 2), note('a')])
})

t.test('Of more than 1,000 users in a transaction all are noted instead, once, however they are written', async t => {
  const { sql, counted } = await noting(t, { exactRevision: true })
  const many = (from: number, to: number): string => `INSERT INTO people (sub) SELECT 'u' || i FROM generate_series(${from}, ${to}) AS i`
  const committed = async (...statements: string[]): Promise<{ users: number, all: number }> => {
    await sql('BEGIN')
    await sql(grownUp)
    for (const statement of statements) await sql(statement)
    await sql('COMMIT')
    return await counted()
  }
  t.same(await committed(many(1, 1000)), { users: 1000, all: 0 })
  t.same(await committed(many(1001, 2001)), { users: 1000, all: 1 })
  t.same(await committed("UPDATE people SET email = 'x', rev = rev + 1"), { users: 1000, all: 1 }, 'the usual way')
  t.same(await committed("UPDATE people SET email = 'y'"), { users: 1000, all: 1 }, 'a revision that did not grow')
  t.same(await committed('DELETE FROM people WHERE sub < \'u1\'', 'DELETE FROM people'), { users: 1000, all: 1 })
  t.same(await committed(many(1, 600), many(601, 1400), "UPDATE people SET email = 'x'"), { users: 1000, all: 1 })
  t.same(await committed('TRUNCATE people', many(1, 5)), { users: 0, all: 1 }, 'after all were noted none is')

  await sql(`BEGIN; ${many(1, 700)}`)
  await sql(grownUp)
  await sql(many(701, 1100))
  await sql('COMMIT')
  t.same(await counted(), { users: 1100, all: 0 }, 'what was written before it counted is not counted')
  await sql(`BEGIN; ${many(1, 5)}`)
  await sql('COMMIT')
  t.same(await counted(), { users: 5, all: 0 }, 'the next begins anew')
})

t.test('What a savepoint takes back is neither counted nor missing', async t => {
  const { sql, counted, noted } = await noting(t)
  const many = (from: number, to: number): string => `INSERT INTO people (sub) SELECT 'u' || i FROM generate_series(${from}, ${to}) AS i`
  await sql(`BEGIN; ${grownUp}`)
  await sql(many(1, 10))
  await sql(`SAVEPOINT a; ${many(11, 1500)}`)
  await sql(`ROLLBACK TO SAVEPOINT a; ${many(11, 20)}`)
  await sql('COMMIT')
  t.same(await counted(), { users: 20, all: 0 }, 'the note for all was taken back with it')

  await sql(`BEGIN; ${grownUp}`)
  await sql(`SAVEPOINT a; ${many(1, 5)}`)
  await sql('RELEASE SAVEPOINT a; SAVEPOINT b; TRUNCATE people; ROLLBACK TO SAVEPOINT b; INSERT INTO people (sub, rev) VALUES (\'a\', 4)')
  await sql('COMMIT')
  t.same((await noted()).slice(5), [note('a', 4)])

  await sql('BEGIN; TRUNCATE people; SAVEPOINT a; DELETE FROM people; ROLLBACK TO SAVEPOINT a; COMMIT')
  t.same(await noted(), ['*'])
  await sql(`DO $$ BEGIN
      BEGIN INSERT INTO people (sub) VALUES ('lost'); RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END;
      INSERT INTO people (sub) VALUES ('kept');
    END $$`)
  t.same(await noted(), [note('kept', 1)])
})

t.test('A session that says of itself that it has noted enough is not believed', async t => {
  const { sql, noted, counted } = await noting(t)
  const places = ['1000', '999999', '-7', '', 'x', '(0,1)', '(0,1', '(999999999,9999)', '(0,70000)', '99999999999999999999', '(0,1)(0,2)']
  await sql("INSERT INTO people (sub) VALUES ('a')")
  for (const forged of places) {
    for (const age of ['', `${grownUp};`]) {
      await noted()
      const forge = `SET orientor.noted = '${forged}'`
      await sql(`BEGIN; ${age} ${forge}; UPDATE people SET email = '${forged}', rev = rev + 1;
        ${forge}; UPDATE people SET email = '${forged}!'; COMMIT`)
      const said = await noted()
      t.ok(said.includes('*') || said.includes(note('a')), `${forged}: ${said.join()}`)
      await sql('RESET orientor.noted')
    }
  }
  // A note for all is there, of another transaction.
  await sql('TRUNCATE people')
  const { rows: [{ place }] } = await sql(`SELECT ctid::text AS place FROM ${changes}`) as unknown as { rows: [{ place: string }] }
  await sql(`BEGIN; SET LOCAL orientor.noted = '${place}'; INSERT INTO people (sub) VALUES ('b'); COMMIT`)
  t.same(await counted(), { users: 1, all: 1 })
})

t.test('Partitions and what inherits are noted by the function of their table, also when they are written directly', async t => {
  const { sql, noted } = await noting(t, {}, `CREATE TABLE people (${peopleColumns}) PARTITION BY LIST (sub);
    CREATE TABLE people_a PARTITION OF people FOR VALUES IN ('a'); CREATE TABLE people_rest PARTITION OF people DEFAULT`)
  await sql("INSERT INTO people_a (sub) VALUES ('a'); UPDATE people_a SET email = 'x', rev = 2")
  t.same(await noted(), [note('a', 1), note('a', 2)])
  await sql("UPDATE people SET sub = 'b', rev = 3")
  t.same((await noted()).sort(), [note('a'), note('b', 3)].sort(), 'from one to another')
})

t.test('One transaction id is taken however many rows are noted', async t => {
  const { sql } = await noting(t)
  await sql("INSERT INTO people (sub) SELECT 'u' || i FROM generate_series(1, 500) AS i")
  const next = async (): Promise<bigint> => BigInt((await sql('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next')).rows[0].next as string)
  for (const write of ["UPDATE people SET email = 'x', rev = rev + 1", "UPDATE people SET email = 'y'", 'DELETE FROM people']) {
    const before = await next()
    await sql(write)
    t.equal(await next() - before, 1n, write)
  }
})
