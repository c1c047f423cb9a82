import type { UserChange } from '@orientor/session-contract/core'
import { postgresMajor, startTestServer, until } from '@orientor/test-kit'
import pg from 'pg'
import t from 'tap'
import { announcementOf } from '../src/coherence/announcement.js'
import { triggersFor } from '../src/outbox/noting-triggers.js'
import { outboxFunctions } from '../src/outbox/outbox-functions.js'
import { schemaToken } from '../src/outbox/outbox-names.js'
import { outboxSql, postgresBus, uninstallOutbox, uninstallOutboxSql } from '../src/postgres.js'
import { announced, columnList, database, hashOf, hastened, issuer, patient, people, peopleSql, quietPool, type Bench } from './fixtures/watched-database.js'

const hasMerge = postgresMajor() >= 15

t.test('triggers', async t => {
  t.test('announce who was changed, with the revision where it grew, and nobody else', async t => {
    const { start, sql, heard } = await database(t, patient)
    await start()
    const said = async (text: string, values?: unknown[]): Promise<string[]> => {
      await sql(text, values)
      return (await heard()).sort()
    }
    t.same(await said("INSERT INTO people (sub, rev) VALUES ('a', 1), ('b', 7)"), [announced('a', 1), announced('b', 7)].sort())
    t.same(await said("UPDATE people SET email = 'x', rev = rev + 1 WHERE sub = 'a'"), [announced('a', 2)])
    t.same(await said('UPDATE people SET seen = now(), rev = rev + 1'), [], 'of columns that nobody watches')
    t.same(await said("UPDATE people SET email = 'x' WHERE sub = 'a'"), [], 'of nothing')
    t.same(await said("UPDATE people SET email = 'y' WHERE sub = 'a'"), [announced('a')], 'a revision that did not grow')
    t.same(await said('UPDATE people SET profile = \'{"a": 1}\', rev = rev + 1 WHERE sub = \'b\''), [announced('b', 9)], 'a type without equality')
    t.same(await said("UPDATE people SET sub = 'c', rev = rev + 1 WHERE sub = 'b'"), [announced('c'), announced('b')].sort(), 'a key that changed')
    t.same(await said("DELETE FROM people WHERE sub = 'c'"), [announced('c')])
    t.same(await said('INSERT INTO people (sub) VALUES (NULL)'), [], 'nobody')
    t.same(await said("UPDATE people SET sub = 'd', rev = 2 WHERE sub IS NULL"), [announced('d', 2)])
    t.same(await said("UPDATE people SET sub = NULL WHERE sub = 'd'"), [announced('d')])
    t.same(await said('DELETE FROM people WHERE sub IS NULL'), [])
    t.same(await said("INSERT INTO people (sub, rev) VALUES ('a', 1) ON CONFLICT (sub) DO UPDATE SET email = 'z', rev = people.rev + 1"), [announced('a', 4)])
    t.same(await said(hasMerge ? "MERGE INTO people USING (VALUES ('a')) AS s(sub) ON people.sub = s.sub WHEN MATCHED THEN DELETE" : "DELETE FROM people WHERE sub = 'a'"), [announced('a')])
    t.same(await said("INSERT INTO people (sub, rev) VALUES ('g', 0)"), [announced('g')], 'a revision that may be remembered for a user who is not there')
    t.same(await said('TRUNCATE people'), ['*'])
    t.same(await said("BEGIN; INSERT INTO people (sub) VALUES ('e'); ROLLBACK"), [])
    await sql('SET session_replication_role = replica')
    t.same(await said("INSERT INTO people (sub, rev) VALUES ('f', 1)"), [announced('f', 1)], 'whatever the replication role')
    await sql('RESET session_replication_role')
    const exotic = ['o\'brien', '"quoted"', 'back\\slash', 'Grüße 🎈', ' leading', '*', '$1', 'a'.repeat(255)]
    for (const sub of exotic) t.same(await said('INSERT INTO people (sub, rev) VALUES ($1, 3)', [sub]), [announced(sub, 3)])
  })

  t.test('are called whichever way a watched column is set', async t => {
    const { start, sql, heard } = await database(t, patient)
    await start()
    t.same(await columnList(sql), ['email', 'profile', 'sub'])
    await sql("CREATE TABLE addresses (name text PRIMARY KEY); INSERT INTO addresses VALUES ('old'); INSERT INTO people (sub, email) VALUES ('a', 'old')")
    await sql('ALTER TABLE people ADD FOREIGN KEY (email) REFERENCES addresses ON UPDATE CASCADE ON DELETE SET NULL; CREATE VIEW contacts AS SELECT seen AS met, email AS address, sub AS who FROM people')
    await heard()
    for (const way of [
      "UPDATE addresses SET name = 'new'",
      'DELETE FROM addresses',
      "INSERT INTO addresses VALUES ('view'); UPDATE contacts SET address = 'view', met = now() WHERE who = 'a'",
      hasMerge ? "MERGE INTO people USING (VALUES ('a')) AS s(sub) ON people.sub = s.sub WHEN MATCHED THEN UPDATE SET email = NULL" : 'UPDATE people SET email = NULL',
      "INSERT INTO contacts (who) VALUES ('a') ON CONFLICT (who) DO UPDATE SET address = 'view'",
      'WITH gone AS (UPDATE people SET (seen, email) = (now(), NULL) RETURNING sub) SELECT count(*) FROM gone',
      "BEGIN; DECLARE rows CURSOR FOR SELECT FROM people FOR UPDATE; FETCH rows; UPDATE people SET profile = '1' WHERE CURRENT OF rows; COMMIT"
    ]) {
      await sql(way)
      t.same(await heard(), [announced('a')], way)
      await sql("UPDATE contacts SET met = now(); INSERT INTO contacts (who) VALUES ('a') ON CONFLICT (who) DO UPDATE SET met = now()")
      t.same(await heard(), [])
    }
  })

  t.test('work on any names of tables and columns', async t => {
    const { start, sql, heard } = await database(t, patient)
    const odd = (name: string): string => `"${name.replaceAll('"', '""')}"`
    const names = { schema: 'Sch"ema', table: "a.b $x$ '\\", issuer: 'ISS %I', subject: "s'ub", revision: 'OLD', column: 'new row' }
    await sql(`CREATE SCHEMA ${odd(names.schema)}; CREATE TABLE ${odd(names.schema)}.${odd(names.table)} (${odd(names.issuer)} text, ${odd(names.subject)} text, ${odd(names.revision)} int, ${odd(names.column)} point)`)
    const bus = await start({}, [{ schema: names.schema, table: names.table, issuer: names.issuer, subject: names.subject, revision: names.revision, columns: [names.column] }])
    t.match(bus.status(), { trusted: true })
    await sql(`INSERT INTO ${odd(names.schema)}.${odd(names.table)} VALUES ('https://issuer.test', 'a', 5, '(1,2)')`)
    t.same(await heard(), [announced('a', 5)])
    await sql(`UPDATE ${odd(names.schema)}.${odd(names.table)} SET ${odd(names.column)} = '(3,4)'`)
    t.same(await heard(), [announced('a')])
  })

  t.test('follow what is written to partitions and to tables that inherit', async t => {
    const { start, sql, heard } = await database(t, patient)
    await sql(`CREATE TABLE parted (sub text, rev bigint DEFAULT 1, email text) PARTITION BY LIST (email);
      CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a'); CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('b');
      CREATE TABLE parent (LIKE parted); CREATE TABLE child () INHERITS (parent)`)
    const watch = { issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'] }
    const bus = await start({}, [{ ...watch, table: 'parted' }, { ...watch, table: 'parent' }])
    t.match(bus.status(), { trusted: true })
    await sql("INSERT INTO parted_a VALUES ('x', 1, 'a'); INSERT INTO child VALUES ('y', 1, 'a')")
    t.same((await heard()).sort(), [announced('x', 1), announced('y', 1)].sort())
    await sql("UPDATE parted SET email = 'b', rev = rev + 1")
    t.ok((await heard()).every(one => one.startsWith(announced('x'))), 'a row that moves')
    const { epoch } = bus.trust
    await sql('TRUNCATE parted_b')
    t.same(await heard(), ['*'])
    await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
    await sql("CREATE TABLE parted_c PARTITION OF parted FOR VALUES IN ('c')")
    await until('a newer epoch', () => bus.trust.epoch > epoch + 1 && bus.status().trusted)
    await heard()
    await sql("INSERT INTO parted_c VALUES ('z', 1, 'c')")
    t.same(await heard(), [announced('z', 1)])
  })

  t.test('announce what logical replication applies', async t => {
    const server = await startTestServer({ parameters: { wal_level: 'logical' } })
    const closers: Array<() => Promise<unknown>> = [() => server.stop()]
    t.teardown(async () => { for (const close of closers.reverse()) await close() })
    const [from, to] = await Promise.all(['origin', 'replica'].map(async name => {
      const url = await server.createDatabase(name)
      const client = new pg.Client({ connectionString: url })
      closers.push(() => client.end())
      await client.connect()
      await client.query(`${peopleSql}; ALTER TABLE people REPLICA IDENTITY FULL`)
      return { url, client }
    }))
    const pool = quietPool({ connectionString: to!.url })
    closers.push(() => pool.end())
    const bus = postgresBus({ pool, ...patient })
    closers.push(() => bus.close())
    const heard: UserChange[] = []
    bus.subscribe(change => { heard.push(change) })
    await bus.start({ watches: [people], report: () => {} })
    await until('trust comes', () => bus.status().trusted)
    await from!.client.query("SELECT pg_create_logical_replication_slot('people_slot', 'pgoutput')")
    await from!.client.query('CREATE PUBLICATION people_published FOR TABLE people')
    await to!.client.query(`CREATE SUBSCRIPTION people_read CONNECTION '${from!.url}' PUBLICATION people_published WITH (create_slot = false, slot_name = 'people_slot', copy_data = false)`)
    await from!.client.query("INSERT INTO people (sub) VALUES ('a'); UPDATE people SET seen = now(), rev = 2; UPDATE people SET email = 'x', rev = 3")
    await until('the last is heard', () => heard.at(-1)?.kind === 'user' && (heard.at(-1) as { revision: number }).revision === 3)
    t.same(heard.map(change => announcementOf(change)).filter(text => text !== announced('a', 1)), [announced('a', 3)], 'and an update of what is not watched is not noted')
  })

  t.test('are refused on what is not a table', async t => {
    const { start, sql, news } = await database(t, patient)
    await sql('CREATE VIEW seen AS SELECT * FROM people')
    const bus = await start({}, [{ ...people, table: 'seen' }])
    t.match(bus.status(), { trusted: false, reason: '"seen" is, or is read with, something that is not a table, so that changes cannot be noted' })
    t.match(news.filter(({ level }) => level === 'warn').at(0)?.message, /could not be put right \(42809\)/)
  })

  t.test('are put in place once by many instances that start at the same time', async t => {
    const { start, sql } = await database(t, patient)
    const buses = await Promise.all(Array.from({ length: 8 }, () => start({ clock: hastened })))
    await until('all are trusted', () => buses.every(bus => bus.status().trusted))
    t.equal((await sql("SELECT FROM pg_trigger WHERE tgname LIKE 'orientor%'")).rowCount, 2)
    t.equal((await sql("SELECT FROM pg_class WHERE relname LIKE 'orientor_outbox%' AND relkind = 'r'")).rowCount, 6)
    await until('all are counted', () => buses.every(bus => bus.status().instances === 8))
  })

  t.test('that go missing end trust until they are back', async t => {
    const { start, sql, heard } = await database(t, patient)
    const bus = await start({ clock: hastened })
    const name = (await sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'orientor%row'")).rows[0].tgname
    const renewed = `DROP TRIGGER ${name} ON people; CREATE TRIGGER ${name} AFTER INSERT OR DELETE OR UPDATE`
    const alike = `ON people FOR EACH ROW EXECUTE FUNCTION ${name.replace('_row', '')}(); ALTER TABLE people ENABLE ALWAYS TRIGGER ${name}`
    for (const [index, harm] of [`${renewed} OF sub, email, seen ${alike}`, `${renewed} OF sub, email, profile, seen ${alike}`, `DROP TRIGGER ${name} ON people`,
      `ALTER TABLE people DISABLE TRIGGER ${name}`, `ALTER TABLE people ENABLE TRIGGER ${name}`,
      `CREATE OR REPLACE FUNCTION ${name.replace('_row', '')}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`, `DROP FUNCTION ${name.replace('_row', '')} CASCADE`,
      'DROP TABLE orientor_outbox_changes', 'DROP TABLE orientor_outbox_mark', 'DROP TABLE orientor_outbox_horizon, orientor_outbox_surveys', `DROP FUNCTION ${outboxFunctions.poll.name}`, `DROP FUNCTION ${outboxFunctions.checkIn.name}`].entries()) {
      const { epoch } = bus.trust
      const provenAtMs = bus.trust.provenAtMs
      await sql(harm)
      await until(`trust is lost and found after ${harm}`, () => bus.trust.epoch > epoch && bus.status().trusted)
      t.ok(bus.trust.lastProofOf(epoch)!.monotonicMs >= provenAtMs)
      t.same(await columnList(sql), ['email', 'profile', 'sub'])
      await sql('INSERT INTO people (sub, rev) VALUES ($1, 1)', [`user ${index}`])
      t.same(await heard(), [announced(`user ${index}`, 1)])
    }
    await sql(`DROP FUNCTION ${outboxFunctions.note.name}`)
    await t.rejects(bus.publish({ kind: 'all' }), { code: 'ORI_CACHE_BUS_UNAVAILABLE' })
    await until('it is back', () => bus.publish({ kind: 'all' }).then(() => true, () => false))
  })

  t.test('that were absent within one transaction begin a new epoch', async t => {
    const { start, sql } = await database(t, patient)
    const bus = await start()
    const name = (await sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'orientor%row'")).rows[0].tgname
    const { epoch } = bus.trust
    await sql(`BEGIN; ALTER TABLE people DISABLE TRIGGER ${name}; INSERT INTO people (sub) VALUES ('unseen'); ALTER TABLE people ENABLE ALWAYS TRIGGER ${name}; COMMIT`)
    await until('a new epoch', () => bus.trust.epoch === epoch + 1)
    await until('trust', () => bus.status().trusted)
    await sql('VACUUM FULL people')
    await until('a new epoch after a rewrite', () => bus.trust.epoch > epoch + 1 && bus.status().trusted)
  })

  t.test('with a column list keep its columns as they are, until they are dropped for that', async t => {
    const { start, sql, heard } = await database(t, patient)
    await sql('CREATE TABLE child () INHERITS (people)')
    const bus = await start()
    await sql("INSERT INTO people (sub, email) VALUES ('a', 'A')")
    await heard()
    await t.rejects(sql('ALTER TABLE people ALTER COLUMN email TYPE varchar(80)'), { code: '0A000' })
    await t.rejects(sql('ALTER TABLE people DROP COLUMN email'), { code: '2BP01' })
    await sql('ALTER TABLE people ALTER COLUMN seen TYPE timestamptz(3), ADD COLUMN note text')
    const { epoch } = bus.trust
    await sql(`BEGIN;
      DO $$
      DECLARE
        name text;
      BEGIN
        FOR name IN SELECT DISTINCT tgfoid::regprocedure FROM pg_trigger WHERE tgrelid = 'people'::regclass AND tgname ~ '^orientor_outbox_[0-9a-f]{12}_row$' LOOP
          EXECUTE format('DROP FUNCTION %s CASCADE', name);
        END LOOP;
      END
      $$;
      ALTER TABLE people ALTER COLUMN email TYPE varchar(80) USING lower(email);
      COMMIT`)
    // The column of before has a new type, too: an epoch may begin for that alone, before the triggers are dropped.
    await until('the triggers are back, and a new epoch', async () =>
      (await sql("SELECT FROM pg_trigger WHERE tgname LIKE 'orientor%row'")).rows.length > 0 && bus.trust.epoch > epoch && bus.status().trusted)
    t.same(await columnList(sql), ['email', 'profile', 'sub'])
    const { epoch: second } = bus.trust
    await sql('ALTER TABLE people DROP COLUMN email CASCADE')
    await until('a newer epoch', () => bus.trust.epoch > second && bus.status().trusted)
    t.same(await columnList(sql), [], 'a list of what is not there cannot be')
    await heard()
    await sql('UPDATE people SET seen = now()')
    t.same(await heard(), ['*'])
  })

  t.test('without a column list leave the columns to their owner', async t => {
    const { start, sql, heard } = await database(t, patient)
    const bus = await start({ columnLists: false })
    t.same(await columnList(sql), [])
    const { epoch } = bus.trust
    await sql('ALTER TABLE people ALTER COLUMN email TYPE varchar(80) USING lower(email), ALTER COLUMN sub TYPE varchar(300)')
    await until('a new epoch after a rewrite', () => bus.trust.epoch > epoch && bus.status().trusted)
    await sql('CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := upper(NEW.email); RETURN NEW; END $$')
    await sql('CREATE TRIGGER shout BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION shout()')
    await until('a new epoch after another trigger came', () => bus.trust.epoch > epoch + 1 && bus.status().trusted)
    await sql("INSERT INTO people (sub, email) VALUES ('a', 'a')")
    await heard()
    await sql("UPDATE people SET seen = now() WHERE sub = 'a'; UPDATE people SET email = 'a'")
    t.same(await heard(), [announced('a')], 'what the other trigger made of it is the same')
    await sql('DROP TRIGGER shout ON people; ALTER TABLE people DROP COLUMN email')
    await sql('UPDATE people SET seen = now()')
    t.same(await heard(), ['*'])
  })

  t.test('are called by all updates where something else may change what is watched, from when that is so', async t => {
    const { start, sql, heard } = await database(t, patient)
    await sql(`CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := 'stamped ' || NEW.rev; RETURN NEW; END $$;
      CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(NEW, OLD); END $$`)
    const bus = await start(patient, [{ ...people, harmlessTriggers: ['harmless'] }])
    const again = async (change: string): Promise<void> => {
      const { epoch } = bus.trust
      await sql(change)
      await until(`a new epoch after ${change}`, () => bus.trust.epoch > epoch && bus.status().trusted)
    }
    const touch = async (): Promise<readonly string[]> => {
      await sql("UPDATE people SET seen = now(), rev = rev + 1 WHERE sub = 'a'")
      return await heard()
    }
    const list = ['email', 'profile', 'sub']
    await sql("INSERT INTO people (sub) VALUES ('a')")
    await heard()
    t.same(await touch(), [])
    t.same(await columnList(sql), list)
    await sql('CREATE TRIGGER later AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION nothing(); CREATE TRIGGER whole BEFORE UPDATE ON people EXECUTE FUNCTION nothing()')
    await sql('CREATE TRIGGER other BEFORE INSERT OR DELETE ON people FOR EACH ROW EXECUTE FUNCTION nothing()')
    await again('CREATE TRIGGER harmless BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION nothing()')
    t.same(await columnList(sql), list, 'those change nothing')
    await again('CREATE TRIGGER stamp BEFORE UPDATE OF seen ON people FOR EACH ROW EXECUTE FUNCTION stamp()')
    t.same(await columnList(sql), [])
    t.same(await touch(), [announced('a', 3)])
    await again('DROP TRIGGER stamp ON people')
    t.same(await columnList(sql), [], 'nothing is gained in a hurry')
    await bus.close()
    await sql('CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION stamp(); ALTER TABLE people DISABLE TRIGGER stamp')
    const name = (await sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'orientor%row'")).rows[0].tgname
    await sql(`DROP TRIGGER ${name} ON people`)
    const second = await start(patient, [{ ...people, harmlessTriggers: ['harmless'] }])
    await until('trust comes', () => second.status().trusted)
    t.same(await columnList(sql), list, 'what is disabled changes nothing')
    const began = second.trust.epoch
    await sql('BEGIN; ALTER TABLE people ENABLE TRIGGER stamp; UPDATE people SET seen = now(); ALTER TABLE people DISABLE TRIGGER stamp; COMMIT')
    await until('a new epoch after it was enabled for a moment', () => second.trust.epoch > began && second.status().trusted)
    const { epoch } = second.trust
    await sql('ALTER TABLE people ENABLE REPLICA TRIGGER stamp')
    await until('it is seen when it is enabled', () => second.trust.epoch > epoch && second.status().trusted)
    await sql('SET session_replication_role = replica')
    t.same(await touch(), [announced('a', 4)])
    await sql('RESET session_replication_role')
  })

  t.test('are called by all updates of a table of which a part has triggers of its own', async t => {
    const { start, sql, heard } = await database(t, patient)
    await sql(`CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := 'stamped ' || NEW.rev; RETURN NEW; END $$;
      CREATE TABLE parted (sub text, rev bigint DEFAULT 1, email text, seen int) PARTITION BY LIST (sub);
      CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a'); CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('b');
      INSERT INTO parted VALUES ('a'), ('b')`)
    const bus = await start(patient, [{ issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'], table: 'parted' }])
    await until('trust comes', () => bus.status().trusted)
    t.same(await columnList(sql), ['email', 'sub'])
    await sql('UPDATE parted SET seen = 1, rev = rev + 1; UPDATE parted_b SET seen = 2, rev = rev + 1')
    t.same(await heard(), [])
    const { epoch } = bus.trust
    await sql('CREATE TRIGGER stamp BEFORE UPDATE ON parted_b FOR EACH ROW EXECUTE FUNCTION stamp()')
    await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
    t.same(await columnList(sql), [])
    await sql('UPDATE parted SET seen = 3, rev = rev + 1')
    t.same(await heard(), [announced('b', 4)])
  })

  t.test('are called by all updates of a partition that is watched by itself, when it has triggers of its own', async t => {
    const { start, sql } = await database(t, patient)
    await sql(`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
      CREATE TABLE parted (sub text, rev bigint DEFAULT 1, email text) PARTITION BY LIST (sub); CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a')`)
    const bus = await start(patient, [{ issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email', 'xmin'], table: 'parted_a' }])
    await until('trust comes', () => bus.status().trusted)
    t.same(await columnList(sql), [], 'what the server keeps cannot be listed')
    await bus.close()
    const second = await start(patient, [{ issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'], table: 'parted_a' }])
    await until('trust comes', () => second.status().trusted)
    const { epoch } = second.trust
    await sql('CREATE TRIGGER other BEFORE UPDATE ON parted_a FOR EACH ROW EXECUTE FUNCTION nothing()')
    await until('a new epoch', () => second.trust.epoch > epoch && second.status().trusted)
  })

  t.test('are put in place without waiting for readers, nor for temporary tables of others', async t => {
    const { directUrl, start, sql, heard } = await database(t, patient)
    const bus = await start(patient)
    await until('trust comes', () => bus.status().trusted)
    const reader = new pg.Client({ connectionString: directUrl })
    await reader.connect()
    try {
      await reader.query('CREATE TEMP TABLE apart () INHERITS (people)')
      await reader.query('BEGIN; SELECT count(*) FROM people')
      const { epoch } = bus.trust
      await sql(`CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := 'stamped'; RETURN NEW; END $$;
        CREATE TRIGGER stamp BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION stamp()`)
      await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
      await sql("INSERT INTO people (sub) VALUES ('a')")
      await heard()
      await sql('UPDATE people SET seen = now()')
      t.same(await heard(), [announced('a')])
    } finally {
      await reader.end()
    }
  })

  t.test('are looked for by what PostgreSQL brings, whatever others define', async t => {
    const { start, sql, heard } = await database(t, patient)
    await sql(`CREATE FUNCTION called() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$;
      CREATE FUNCTION public.starts_with(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT called(); SELECT true';
      CREATE FUNCTION public.format(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT called(); SELECT NULL::text';
      CREATE FUNCTION public.nought(smallint, integer) RETURNS integer LANGUAGE sql AS 'SELECT 0';
      CREATE OPERATOR public.& (LEFTARG = smallint, RIGHTARG = integer, FUNCTION = public.nought);
      CREATE SCHEMA later; CREATE TABLE later.friends (LIKE people INCLUDING DEFAULTS)`)
    await sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, later', current_database()); END $$")
    const bus = await start(patient, [people, { ...people, table: 'friends' }])
    await until('trust comes', () => bus.status().trusted)
    const { epoch } = bus.trust
    await sql(`CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.email := 'stamped'; RETURN NEW; END $$;
      CREATE TRIGGER stamp BEFORE UPDATE ON later.friends FOR EACH ROW EXECUTE FUNCTION stamp()`)
    await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
    await sql("INSERT INTO later.friends (sub) VALUES ('a')")
    await heard()
    await sql('UPDATE later.friends SET seen = now()')
    t.same(await heard(), [announced('a')])
  })

  t.test('see columns that are stored when they are computed, and are refused for those that are computed when they are read', async t => {
    const { start, sql, heard, news } = await database(t, patient)
    await sql("ALTER TABLE people ADD COLUMN note text, ADD COLUMN stored text GENERATED ALWAYS AS ('x' || note) STORED")
    const bus = await start(patient, [{ ...people, columns: ['stored'] }])
    await until('trust comes', () => bus.status().trusted)
    t.same(await columnList(sql), ['stored', 'sub'])
    await sql("INSERT INTO people (sub) VALUES ('a')")
    await heard()
    await sql('UPDATE people SET seen = now(), rev = rev + 1')
    t.same(await heard(), [])
    await sql("UPDATE people SET note = 'new', rev = rev + 1")
    t.same(await heard(), [announced('a', 3)])
    // PostgreSQL has the others since 18.
    if (postgresMajor() < 18) return
    await sql("ALTER TABLE people ADD COLUMN read text GENERATED ALWAYS AS ('x' || note) VIRTUAL")
    await bus.close()
    news.length = 0
    const blind = await start(patient, [{ ...people, columns: ['read'] }])
    t.match(blind.status(), { trusted: false, reason: '"read" of "people" is a virtual generated column, which triggers do not see. Watch the columns that it is computed from' })
    t.match(news.filter(({ level }) => level === 'warn').at(0)?.message, /could not be put right \(0A000\)/)
  })

  t.test('wait for a table that is made later', async t => {
    const { sql, start } = await database(t, patient)
    await sql('DROP TABLE people')
    const bus = await start()
    t.match(bus.status(), { trusted: false, reason: 'The table "people" does not exist' })
    await sql(peopleSql)
    await until('trust comes', () => bus.status().trusted)
  })
  t.test('of two versions live side by side, and what no instance needs any more is removed', async t => {
    const { start, sql, heard } = await database(t, { ...patient, clock: hastened, random: () => 0 })
    const older = await start({}, [{ ...people, columns: ['email'] }])
    const [first, second] = await Promise.all([start(), start()])
    await until('all are counted', () => [older, first, second].every(bus => bus.status().instances === 3))
    const functions = async (): Promise<number> => (await noters(sql)).length
    t.equal(await functions(), 2)
    const { epoch } = older.trust
    await sql("INSERT INTO people (sub, rev) VALUES ('a', 1)")
    t.same([...new Set(await heard())], [announced('a', 1)])
    t.equal(older.trust.epoch, epoch, 'and do not disturb each other')
    await older.close()
    await until('what the older one needed is gone', async () => await functions() === 1)
    for (const bus of [first, second]) await until('trust goes on', () => bus.status().trusted)
    // One that is gone without a word is waited for.
    await sql("INSERT INTO orientor_outbox_instances SELECT gen_random_uuid(), now() - interval '40 s', ARRAY['orientor_outbox_0123456789ab']")
    await sql(`CREATE FUNCTION orientor_outbox_0123456789ab() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER orientor_outbox_0123456789ab_row AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION orientor_outbox_0123456789ab()`)
    const lastCheckIn = async (): Promise<number> => Number((await sql('SELECT extract(epoch FROM max(seen_at)) AS at FROM orientor_outbox_instances')).rows[0].at)
    const before = await lastCheckIn()
    await until('they have looked', async () => await lastCheckIn() > before + 0.6)
    t.equal(await functions(), 2)
    await sql("UPDATE orientor_outbox_instances SET seen_at = seen_at - interval '21 s' WHERE needs = ARRAY['orientor_outbox_0123456789ab']")
    await until('it is gone', async () => await functions() === 1)
  })

  t.test('of the time of LISTEN and NOTIFY are left while a session of theirs is there, and removed afterwards', async t => {
    const { start, sql, session } = await database(t, { ...patient, clock: hastened, random: () => 0 })
    await sql(`CREATE FUNCTION orientor_0123456789ab_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_notify(''orientor_user'', ''*''); RETURN NULL; END';
      CREATE TRIGGER orientor_0123456789ab_1_row AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION orientor_0123456789ab_1();
      CREATE FUNCTION orientor_unlike() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER orientor_unlike AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION orientor_unlike()`)
    const old = async (): Promise<number> => (await sql("SELECT FROM pg_proc WHERE proname = 'orientor_0123456789ab_1'")).rowCount!
    const listener = await session()
    await listener.query("SET application_name = 'orientor-bus/0123456789ab'")
    const bus = await start()
    await until('it has checked in', () => bus.status().instances === 1)
    const lastCheckIn = async (): Promise<number> => Number((await sql('SELECT extract(epoch FROM max(seen_at)) AS at FROM orientor_outbox_instances')).rows[0].at)
    const before = await lastCheckIn()
    await until('it has looked', async () => await lastCheckIn() > before + 0.6)
    t.equal(await old(), 1)
    const { epoch } = bus.trust
    await listener.end()
    await until('it is gone', async () => await old() === 0)
    t.equal((await sql("SELECT FROM pg_trigger WHERE tgname = 'orientor_unlike'")).rowCount, 1, 'what is called otherwise is not ours')
    await until('trust goes on', () => bus.status().trusted)
    t.equal(bus.trust.epoch, epoch)
  })

  t.test('do not call functions that another role has put in their place', async t => {
    const { start, sql, heard } = await database(t, patient)
    const [{ name, body }] = triggersFor([people], true) as unknown as [{ name: string, body: string }]
    await sql('CREATE ROLE mallory; GRANT CREATE ON SCHEMA public TO mallory; CREATE SCHEMA evil AUTHORIZATION mallory; GRANT USAGE ON SCHEMA evil TO PUBLIC; SET ROLE mallory')
    await sql(`CREATE FUNCTION public.${name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = evil, pg_catalog AS $x$${body.replaceAll(schemaToken, '"public"')}$x$`)
    const { poll, begin, checkIn } = outboxFunctions
    await sql(`CREATE FUNCTION public.${poll.name}(${poll.parameters}) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $x$${poll.body.replaceAll(schemaToken, '"public"')}$x$`)
    await sql(`CREATE FUNCTION public.${begin.name}(OUT began boolean) LANGUAGE sql AS 'SELECT true'; CREATE PROCEDURE public.${checkIn.name}() LANGUAGE sql AS ''`)
    await sql('RESET ROLE')
    const bus = await start()
    t.match(bus.status(), { trusted: true })
    const owners = async (): Promise<string[]> => (await sql("SELECT DISTINCT pg_get_userbyid(proowner) AS owner FROM pg_proc WHERE proname LIKE 'orientor%'")).rows.map(({ owner }) => owner as string)
    t.same(await owners(), ['postgres'])
    await sql("INSERT INTO people (sub, rev) VALUES ('a', 1)")
    t.same(await heard(), [announced('a', 1)])
    for (const harm of [`ALTER FUNCTION ${name}() OWNER TO mallory`, `ALTER FUNCTION ${name}() SECURITY INVOKER`, `ALTER FUNCTION ${name}() SET search_path = evil, pg_catalog`]) {
      const { epoch } = bus.trust
      await sql(harm)
      await until(`trust is lost and found after ${harm}`, () => bus.trust.epoch > epoch && bus.status().trusted)
      const { rows: [found] } = await sql("SELECT proowner = 'mallory'::regrole AS stolen, prosecdef, proconfig[1] AS path FROM pg_proc WHERE proname = $1", [name])
      t.strictSame(found, { stolen: false, prosecdef: true, path: 'search_path=pg_catalog, pg_temp' }, harm)
    }
    await bus.close()
    await sql('DROP OWNED BY mallory CASCADE; DROP ROLE mallory')
  })

  t.test('write to no table that another role has put in place of the outbox, and are not trusted with it', async t => {
    const { start, sql, news } = await database(t, patient)
    await sql('CREATE ROLE trudy; GRANT CREATE ON SCHEMA public TO trudy')
    for (const [table, reason, code] of [
      ['orientor_outbox_changes (xid xid8, key_hash bytea, revision bigint)', /The outbox in the schema "public" belongs to the role "trudy", which may not act for the owner|is not there/, '42501'],
      ['orientor_outbox_mark (token uuid, place text)', /./, '42P07'],
      ['orientor_outbox_horizon (seen pg_snapshot, taken pg_snapshot, taken_at timestamptz)', /./, '42P07'],
      ['orientor_outbox_instances (id uuid PRIMARY KEY, seen_at timestamptz, needs text[])', /./, '42P07']
    ] as const) {
      await sql(`SET ROLE trudy; CREATE TABLE public.${table}; RESET ROLE`)
      news.length = 0
      const bus = await start()
      t.match(bus.status(), { trusted: false, reason })
      t.match(news.find(({ level }) => level === 'warn')?.message, new RegExp(`could not be put right \\(${code}\\)`))
      t.equal((await sql("SELECT FROM pg_trigger WHERE tgname LIKE 'orientor%'")).rowCount, 0)
      await bus.close()
      await sql('DROP OWNED BY trudy CASCADE; GRANT CREATE ON SCHEMA public TO trudy')
    }
    const bus = await start()
    t.match(bus.status(), { trusted: true })
    for (const table of ['changes', 'mark', 'horizon', 'instances']) {
      await sql(`ALTER TABLE orientor_outbox_${table} OWNER TO trudy`)
      const second = await start()
      t.match(second.status(), { trusted: false }, table)
      await second.close()
      await sql(`ALTER TABLE orientor_outbox_${table} OWNER TO postgres`)
    }
    await bus.close()
    await sql('DROP OWNED BY trudy CASCADE; DROP ROLE trudy')
  })

  t.test('that may not be put in place are asked for, with their SQL, once', async t => {
    const { url, sql, start, news } = await database(t, patient)
    await sql("CREATE ROLE app LOGIN PASSWORD 'app'; GRANT SELECT (sub) ON people TO app")
    for (const installTriggers of [true, false]) {
      news.length = 0
      const pool = as(url, 'app', t)
      const bus = await start({ pool, installTriggers })
      t.match(bus.status(), { trusted: false, reason: 'The outbox is not there, in the schema "public"', remedy: /outboxSql/ })
      await until('it was asked for', () => news.some(({ sql }) => sql !== undefined))
      const asked = news.filter(({ sql }) => sql !== undefined)
      t.equal(asked.length, 1)
      t.equal(asked[0]!.sql, outboxSql([people]))
      await sql(asked[0]!.sql!)
      await sql(asked[0]!.sql!)
      // A session of the app may have been refused before: it asks on.
      await until('trust comes', () => bus.status().trusted)
      await sql("INSERT INTO people (sub) VALUES ('a'); DELETE FROM people")
      await bus.close()
      await sql(uninstallOutboxSql([people]))
    }
    await sql('DROP OWNED BY app; DROP ROLE app')
  })

  t.test('need no right of a role that only polls but to find the table, and none of a role that writes but to write it', async t => {
    const { url, sql, start, changes, session } = await database(t, patient)
    await sql("CREATE SCHEMA apart; CREATE TABLE apart.people (LIKE people INCLUDING ALL); CREATE ROLE reader LOGIN PASSWORD 'reader'; CREATE ROLE writer; GRANT USAGE ON SCHEMA apart TO reader, writer; GRANT SELECT ON apart.people TO reader; GRANT ALL ON apart.people TO writer")
    const apart = { ...people, schema: 'apart' }
    await sql(outboxSql([apart]))
    const bus = await start({ pool: as(url, 'reader', t), installTriggers: false, clock: hastened }, [apart])
    t.match(bus.status(), { trusted: true })
    await until('it is counted', () => bus.status().instances === 1)
    const client = await session()
    await client.query("SET ROLE writer; SET search_path = ''; INSERT INTO apart.people (sub, rev) VALUES ('a', 7)")
    await until('it is heard', () => changes.length === 1)
    t.same(changes, [{ kind: 'user', keyHash: hashOf('a'), revision: 7 }])
    await t.rejects(client.query('SELECT FROM apart.orientor_outbox_changes'), { code: '42501' })
    await bus.publish({ kind: 'all' })
    await until('what it published is heard', () => changes.length === 2)
    await sql('DROP OWNED BY reader, writer; DROP ROLE reader, writer')
  })

  t.test('belong to the owner of the table, whichever role of those that may installs them', async t => {
    const { url, sql, start, changes } = await database(t, patient)
    await sql(`CREATE ROLE "App Owner"; CREATE ROLE member LOGIN PASSWORD 'member' IN ROLE "App Owner"; CREATE ROLE root LOGIN PASSWORD 'root' SUPERUSER;
      GRANT CREATE ON SCHEMA public TO "App Owner"; ALTER TABLE people OWNER TO "App Owner"`)
    for (const role of ['member', 'root']) {
      changes.length = 0
      const bus = await start({ pool: as(url, role, t) })
      t.match(bus.status(), { trusted: true }, role)
      const { rows } = await sql(`SELECT DISTINCT pg_get_userbyid(owner) AS owner FROM (
        SELECT proowner FROM pg_proc WHERE proname LIKE 'orientor%' UNION ALL SELECT relowner FROM pg_class WHERE relname LIKE 'orientor%') AS o(owner)`)
      t.same(rows, [{ owner: 'App Owner' }], role)
      await sql('INSERT INTO people (sub) VALUES ($1)', [role])
      await until('it is heard', () => changes.length === 1)
      // Another instance with another role finds all of it in order.
      const other = await start({ pool: as(url, role === 'root' ? 'member' : 'root', t), installTriggers: false })
      t.match(other.status(), { trusted: true })
      await other.close()
      await bus.close()
      await uninstallOutbox(as(url, role, t), [people])
      t.same(await leftovers(sql), [])
    }
    await sql('ALTER TABLE people OWNER TO postgres; DROP OWNED BY "App Owner", member; DROP ROLE member, "App Owner", root')
  })

  t.test('of tables of several owners and schemas note into one outbox, whose owner may act for the first of them', async t => {
    const { sql, start, changes } = await database(t, patient)
    await sql('CREATE ROLE other; CREATE SCHEMA second AUTHORIZATION other; CREATE TABLE second.friends (LIKE people INCLUDING DEFAULTS); ALTER TABLE second.friends OWNER TO other; CREATE SCHEMA "The Box"')
    const bus = await start({ schema: 'The Box' }, [people, { ...people, schema: 'second', table: 'friends' }])
    t.match(bus.status(), { trusted: true })
    t.same((await sql("SELECT DISTINCT relnamespace::regnamespace::text AS home FROM pg_class WHERE relname LIKE 'orientor%'")).rows, [{ home: '"The Box"' }])
    await sql("INSERT INTO people (sub) VALUES ('a'); SET ROLE other; INSERT INTO second.friends (sub) VALUES ('b'); RESET ROLE")
    await until('both are heard', () => changes.length === 2)
    t.same(new Set(changes.map(change => announcementOf(change))), new Set([announced('a', 1), announced('b', 1)]))
    await bus.close()
    await sql(uninstallOutboxSql([people], { schema: 'The Box' }))
    t.same(await leftovers(sql), [])
    await sql('DROP SCHEMA second CASCADE; DROP ROLE other')
  })

  t.test('are not put into a schema whose name cannot stand in them, which is said', async t => {
    const { sql, start, news } = await database(t, patient)
    for (const schema of ["o'brien", 'back\\slash', 'dollar$', 'at@']) {
      news.length = 0
      await sql(`CREATE SCHEMA ${pg.escapeIdentifier(schema)}; CREATE TABLE ${pg.escapeIdentifier(schema)}.people (LIKE people)`)
      const bus = await start({}, [{ ...people, schema }])
      t.match(bus.status(), { trusted: false, reason: `An outbox cannot be in the schema ${pg.escapeIdentifier(schema)}, for the quote, the backslash, the dollar or the at sign in its name. Give the option "schema"` })
      t.match(news[0]?.message, /could not be put right \(0A000\)/)
      await bus.close()
      const mended = await start({ schema: 'public' }, [{ ...people, schema }])
      t.match(mended.status(), { trusted: true })
      await mended.close()
    }
  })

  t.test('follow a table that another of its name comes before on the search path', async t => {
    const { sql, start, url, changes } = await database(t, patient)
    await sql('CREATE SCHEMA earlier')
    const pool = quietPool({ connectionString: url, options: '-c search_path=earlier,public' })
    t.teardown(() => pool.end())
    const bus = await start({ pool })
    t.match(bus.status(), { trusted: true })
    const { epoch } = bus.trust
    await sql('CREATE TABLE earlier.people (LIKE people INCLUDING DEFAULTS)')
    await until('a new epoch of the other table', () => bus.trust.epoch > epoch && bus.status().trusted)
    await sql("INSERT INTO earlier.people (sub) VALUES ('a')")
    await until('it is heard', () => changes.some(change => announcementOf(change) === announced('a', 1)))
    const { epoch: second } = bus.trust
    await sql('DROP TABLE earlier.people')
    await until('a new epoch of the first', () => bus.trust.epoch > second && bus.status().trusted)
  })

  t.test('leave nothing behind when they are uninstalled, again and while an instance polls', async t => {
    const { sql, start, pool, news } = await database(t, patient)
    const before = await leftovers(sql)
    await sql('CREATE TABLE friends (LIKE people INCLUDING DEFAULTS)')
    const both = [people, { ...people, table: 'friends' }]
    const bus = await start({ installTriggers: false }, both)
    await sql(outboxSql(both))
    await until('it is trusted', () => bus.status().trusted)
    news.length = 0
    await uninstallOutbox(pool, both)
    t.same(await leftovers(sql), before)
    await until('trust ends', () => bus.status().reason === 'The outbox is not there, in the schema "public"')
    await uninstallOutbox(pool, both)
    await sql(uninstallOutboxSql(both))
    await sql(uninstallOutboxSql(both))
    t.same(await leftovers(sql), before)
    await sql("INSERT INTO people (sub) VALUES ('written meanwhile')")
    const { epoch } = bus.trust
    await sql(outboxSql(both))
    await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
  })
})

/** A pool of another role, whose password is its name. */
function as (url: string, role: string, t: { teardown (callback: () => unknown): void }): pg.Pool {
  const its = new URL(url)
  its.username = its.password = role
  const pool = quietPool({ connectionString: its.href })
  t.teardown(() => pool.end())
  return pool
}

/** The names of the functions that note changes. */
async function noters (sql: Bench['sql']): Promise<readonly string[]> {
  return (await sql("SELECT proname FROM pg_proc WHERE proname ~ '^orientor_outbox_[0-9a-f]{12}$' ORDER BY 1")).rows.map(({ proname }) => proname as string)
}

/** The objects of the catalogue that are called after this project. */
async function leftovers (sql: Bench['sql']): Promise<readonly string[]> {
  return (await sql(`SELECT proname::text AS name FROM pg_proc WHERE proname LIKE 'orientor%' UNION ALL SELECT relname::text FROM pg_class WHERE relname LIKE 'orientor%'
    UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE 'orientor%' UNION ALL SELECT typname::text FROM pg_type WHERE typname LIKE '%orientor%' ORDER BY 1`)).rows.map(({ name }) => name as string)
}
