import { createServer, type AddressInfo, type Socket } from 'node:net'
import type { UserChange } from '@orientor/session-contract/core'
import { postgresMajor, startTestServer, until } from '@orientor/test-kit'
import pg from 'pg'
import t from 'tap'
import { announcementOf } from '../src/coherence/announcement.js'
import { TriggerInstaller } from '../src/coherence/trigger-installer.js'
import { postgresBus, triggerSql } from '../src/postgres.js'
import { triggersFor } from '../src/sql/trigger-set.js'
import { announced, columnList, database, issuer, patient, people, peopleSql } from './fixtures/watched-database.js'

const hasMerge = postgresMajor() >= 15

t.test('triggers', async t => {
  t.test('announce who was changed, with the revision where it grew, and nobody else', async t => {
    const { start, sql, heard } = await database(t, patient)
    await start()
    const said = async (text: string, values?: unknown[]): Promise<string[]> => {
      await sql(text, values)
      return await heard()
    }
    t.same(await said("INSERT INTO people (sub, rev) VALUES ('a', 1), ('b', 7)"), [announced('a', 1), announced('b', 7)])
    t.same(await said("UPDATE people SET email = 'x', rev = rev + 1 WHERE sub = 'a'"), [announced('a', 2)])
    t.same(await said('UPDATE people SET seen = now(), rev = rev + 1'), [], 'of columns that nobody watches')
    t.same(await said("UPDATE people SET email = 'x' WHERE sub = 'a'"), [], 'of nothing')
    t.same(await said("UPDATE people SET email = 'y' WHERE sub = 'a'"), [announced('a')], 'a revision that did not grow')
    t.same(await said('UPDATE people SET profile = \'{"a": 1}\', rev = rev + 1 WHERE sub = \'b\''), [announced('b', 9)], 'a type without equality')
    t.same(await said("UPDATE people SET sub = 'c', rev = rev + 1 WHERE sub = 'b'"), [announced('c'), announced('b')], 'a key that changed')
    t.same(await said("DELETE FROM people WHERE sub = 'c'"), [announced('c')])
    t.same(await said('INSERT INTO people (sub) VALUES (NULL)'), [], 'nobody')
    t.same(await said("UPDATE people SET sub = 'd', rev = 2 WHERE sub IS NULL"), [announced('d', 2)])
    t.same(await said("UPDATE people SET sub = NULL WHERE sub = 'd'"), [announced('d')])
    t.same(await said('DELETE FROM people WHERE sub IS NULL'), [])
    t.same(await said("INSERT INTO people (sub, rev) VALUES ('a', 1) ON CONFLICT (sub) DO UPDATE SET email = 'z', rev = people.rev + 1"), [announced('a', 4)])
    t.same(await said(hasMerge ? "MERGE INTO people USING (VALUES ('a')) AS s(sub) ON people.sub = s.sub WHEN MATCHED THEN DELETE" : "DELETE FROM people WHERE sub = 'a'"), [announced('a')])
    t.same(await said("INSERT INTO people (sub, rev) VALUES ('g', 0)"), [announced('g')], 'a revision that may be remembered for nobody')
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

  t.test('announce a thousand users of a transaction one by one, then that all may have changed', async t => {
    const { start, sql, heard } = await database(t, patient)
    await start()
    await sql("INSERT INTO people (sub) SELECT 's' || i FROM generate_series(1, 1000) AS i")
    const thousand = await heard()
    t.equal(thousand.length, 1000)
    t.notOk(thousand.includes('*'))
    await sql("INSERT INTO people (sub) SELECT 't' || i FROM generate_series(1, 5000) AS i")
    const more = await heard()
    t.equal(more.length, 1001)
    t.equal(more.filter(one => one === '*').length, 1)
    await sql("BEGIN; SAVEPOINT a; INSERT INTO people (sub) SELECT 'u' || i FROM generate_series(1, 2000) AS i; ROLLBACK TO a; INSERT INTO people (sub, rev) VALUES ('v', 3); COMMIT")
    t.same(await heard(), [announced('v', 3)], 'what was rolled back does not count')
  })

  t.test('never make a write fail, and announce that all may have changed when they cannot tell who did', async t => {
    const { start, sql, heard } = await database(t, patient)
    await start()
    await sql("INSERT INTO people (sub) VALUES ('a')")
    await heard()
    await sql("SELECT set_config('orientor.announced', 'rubbish', false)")
    await sql("UPDATE people SET email = 'a'")
    t.same(await heard(), ['*'])
    await sql("SELECT set_config('orientor.announced', '1000', false)")
    await sql("UPDATE people SET email = 'b'")
    t.same(await heard(), ['*'], 'whoever forges the count gains nothing')
    await sql("SELECT set_config('orientor.announced', '', false)")
    await sql('CREATE ROLE writer; GRANT ALL ON people TO writer; REVOKE EXECUTE ON FUNCTION pg_notify FROM PUBLIC; SET ROLE writer')
    await sql("UPDATE people SET email = 'c'")
    await sql('RESET ROLE; GRANT EXECUTE ON FUNCTION pg_notify TO PUBLIC; DROP OWNED BY writer; DROP ROLE writer')
    t.same(await heard(), ['*'], 'a writer who may not notify')
    await sql('ALTER TABLE people RENAME COLUMN email TO mail')
    await sql("UPDATE people SET mail = 'd'")
    t.same(await heard(), ['*'], 'a column that is gone')
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
    t.same(await heard(), [announced('x', 1), announced('y', 1)])
    await sql("UPDATE parted SET email = 'b', rev = rev + 1")
    t.ok((await heard()).every(one => one.startsWith(announced('x'))), 'a row that moves')
    const { epoch } = bus.trust
    await sql('TRUNCATE parted_b')
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
    const bus = postgresBus({ listenUrl: to!.url, ...patient })
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
    t.same(heard.map(change => announcementOf(change)), [announced('a', 1), announced('a', 3)])
  })

  t.test('are refused on what is not a table', async t => {
    const { start, sql, news } = await database(t, patient)
    await sql('CREATE VIEW seen AS SELECT * FROM people')
    const bus = await start({}, [{ ...people, table: 'seen' }])
    t.match(bus.status(), { trusted: false, reason: '"seen" is, or is read with, something that is not a table, so that changes cannot be announced' })
    t.match(news.filter(({ level }) => level === 'warn').at(0)?.message, /could not be put right \(42809\)/)
  })

  t.test('of two versions live side by side, and what no instance needs any more is removed', async t => {
    const { start, sql, heard } = await database(t, patient)
    const older = await start(patient, [{ ...people, columns: ['email'] }])
    const [first, second] = await Promise.all([start(patient), start(patient)])
    await until('all are trusted', () => [older, first, second].every(bus => bus.status().trusted))
    const functions = async (): Promise<number> => Number((await sql("SELECT count(*) FROM pg_proc WHERE proname LIKE 'orientor%'")).rows[0].count)
    t.equal(await functions(), 2)
    const { epoch } = older.trust
    await sql("INSERT INTO people (sub, rev) VALUES ('a', 1)")
    t.same([...new Set(await heard())], [announced('a', 1)])
    t.equal(older.trust.epoch, epoch, 'and do not disturb each other')
    await older.close()
    await until('the older one is gone', async () => (await sql("SELECT FROM pg_stat_activity WHERE application_name LIKE 'orientor-bus/%'")).rowCount === 2)
    const third = await start(patient)
    await until('the third is trusted', () => third.status().trusted)
    await until('what the older one needed is gone', async () => await functions() === 1)
    t.match(third.status(), { trusted: true })
  })

  t.test('of another service on the same table are left alone while that one lives', async t => {
    const { start, sql } = await database(t, patient)
    const functions = async (): Promise<string[]> => (await sql("SELECT proname FROM pg_proc WHERE proname LIKE 'orientor%' ORDER BY proname")).rows.map(({ proname }) => proname as string)
    const other = await start({ ...patient, applicationName: 'other', channel: 'other' })
    await until('the other is trusted', () => other.status().trusted)
    const lives = await functions()
    const past = await start({ ...patient, channel: 'past' })
    await until('one from the past is trusted', () => past.status().trusted)
    const { epoch } = other.trust
    await past.close()
    await until('it is gone', async () => (await sql("SELECT FROM pg_stat_activity WHERE application_name LIKE 'orientor-bus/%'")).rowCount === 0)
    const one = await start({ ...patient, applicationName: 'one' })
    await until('what the past one needed is gone', async () => one.status().trusted && (await functions()).length === 2)
    t.ok((await functions()).includes(lives[0]!))
    await until('it was looked at since', () => performance.now() - other.trust.provenAtMs < 100)
    t.equal(other.trust.epoch, epoch)
  })

  t.test('do not call a function that somebody else has put in their place', async t => {
    const { start, sql, heard } = await database(t, patient)
    const { tables: [{ name, body }] } = triggersFor([people], 'orientor_user', true) as unknown as { tables: [{ name: string, body: string }] }
    const [{ name: another }] = triggersFor([people], 'another', true).tables as unknown as [{ name: string }]
    await sql(`CREATE PROCEDURE public.${another}() LANGUAGE sql AS ''`)
    const unhindered = await start({ ...patient, channel: 'another' })
    await until('trust comes', () => unhindered.status().trusted)
    await unhindered.close()
    await sql('CREATE ROLE mallory; GRANT CREATE ON SCHEMA public TO mallory; CREATE SCHEMA evil AUTHORIZATION mallory; SET ROLE mallory')
    await sql("CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE sql AS ''; GRANT USAGE ON SCHEMA evil TO PUBLIC")
    await sql(`CREATE FUNCTION public.${name}() RETURNS trigger LANGUAGE plpgsql SET search_path = evil, pg_catalog AS $x$${body}$x$`)
    await sql('RESET ROLE')
    const bus = await start()
    await until('trust comes', () => bus.status().trusted)
    await sql("INSERT INTO people (sub, rev) VALUES ('a', 1)")
    t.same(await heard(), [announced('a', 1)])
    for (const harm of [`ALTER FUNCTION ${name}() OWNER TO mallory`, `ALTER FUNCTION ${name}() SECURITY DEFINER`, `ALTER FUNCTION ${name}() SET search_path = evil, pg_catalog`]) {
      const { epoch } = bus.trust
      await sql(harm)
      await until(`trust is lost and found after ${harm}`, () => bus.trust.epoch > epoch && bus.status().trusted)
      const { rows: [found] } = await sql("SELECT proowner = 'mallory'::regrole AS stolen, prosecdef, proconfig FROM pg_proc WHERE proname = $1", [name])
      t.strictSame(found, { stolen: false, prosecdef: false, proconfig: ['search_path=pg_catalog, pg_temp'] }, harm)
    }
    await bus.close()
    await sql('DROP OWNED BY mallory CASCADE; DROP ROLE mallory')
  })

  t.test('are not waited for when the bus is closed, whatever the other side does', async t => {
    const sockets: Socket[] = []
    for (const answer of [(socket: Socket) => { socket.destroy() }, () => {}]) {
      const server = createServer(socket => {
        sockets.push(socket.once('data', () => { answer(socket) }).on('error', () => {}))
      }).listen(0, '127.0.0.1')
      await until('it listens', () => server.listening)
      const { port } = server.address() as AddressInfo
      const installer = new TriggerInstaller({ connection: { host: '127.0.0.1', port, user: 'x', database: 'x' }, triggers: triggersFor([people], 'x', true), withinMs: 60_000 })
      const attempt = installer.install()
      const pruning = installer.prune()
      await new Promise(resolve => { setImmediate(resolve) })
      const beganMs = performance.now()
      await installer.close()
      t.ok(performance.now() - beganMs < 5000)
      t.match(await attempt, { kind: 'later' })
      await pruning
      for (const socket of sockets) socket.destroy()
      server.close()
    }
    const missing = new TriggerInstaller({ connection: { connectionString: 'postgres://x@127.0.0.1/x?sslmode=verify-full&sslrootcert=/nowhere' }, triggers: triggersFor([people], 'x', true), withinMs: 100 })
    t.match(await missing.install(), { kind: 'later' }, 'nor does the file of a certificate that is missing throw')
  })

  t.test('are put in place once by many instances that start at the same time', async t => {
    const { start, sql } = await database(t, patient)
    const buses = await Promise.all(Array.from({ length: 8 }, () => start()))
    await until('all are trusted', () => buses.every(bus => bus.status().trusted))
    t.equal((await sql("SELECT FROM pg_trigger WHERE tgname LIKE 'orientor%'")).rowCount, 2)
    await until('all are counted', () => buses.every(bus => bus.status().instances === 8))
  })

  t.test('that go missing end trust until they are back', async t => {
    const { start, sql, heard } = await database(t, patient)
    const bus = await start()
    const name = (await sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'orientor%row'")).rows[0].tgname
    const renewed = `DROP TRIGGER ${name} ON people; CREATE TRIGGER ${name} AFTER INSERT OR DELETE OR UPDATE`
    const alike = `ON people FOR EACH ROW EXECUTE FUNCTION ${name.replace('_row', '')}(); ALTER TABLE people ENABLE ALWAYS TRIGGER ${name}`
    for (const [index, harm] of [`${renewed} OF sub, email, seen ${alike}`, `${renewed} OF sub, email, profile, seen ${alike}`, `DROP TRIGGER ${name} ON people`,
      `ALTER TABLE people DISABLE TRIGGER ${name}`, `ALTER TABLE people ENABLE TRIGGER ${name}`,
      `CREATE OR REPLACE FUNCTION ${name.replace('_row', '')}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`, `DROP FUNCTION ${name.replace('_row', '')} CASCADE`].entries()) {
      const { epoch } = bus.trust
      const provenAtMs = bus.trust.provenAtMs
      await sql(harm)
      await until(`trust is lost and found after ${harm}`, () => bus.trust.epoch > epoch && bus.status().trusted)
      t.ok(bus.trust.lastProofOf(epoch)!.monotonicMs >= provenAtMs)
      t.same(await columnList(sql), ['email', 'profile', 'sub'])
      await sql('INSERT INTO people (sub, rev) VALUES ($1, 1)', [`user ${index}`])
      t.same(await heard(), [announced(`user ${index}`, 1)])
    }
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
        FOR name IN SELECT DISTINCT tgfoid::regprocedure FROM pg_trigger WHERE tgrelid = 'people'::regclass AND tgname ~ '^orientor_[0-9a-f]{12}_[0-9]+_row$' LOOP
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

  t.test('that may not be put in place are asked for, with their SQL, once', async t => {
    const { url, sql, start, news } = await database(t, patient)
    await sql("CREATE ROLE app LOGIN PASSWORD 'app'")
    const app = new URL(url)
    app.username = app.password = 'app'
    for (const installTriggers of [true, false]) {
      news.length = 0
      const bus = await start({ listenUrl: app.href, installTriggers, channel: `channel_${installTriggers}` })
      t.match(bus.status(), { trusted: false, reason: 'A trigger that announces changes of "people" is missing' })
      await until('it was asked for', () => news.some(({ sql }) => sql !== undefined))
      const asked = news.filter(({ sql }) => sql !== undefined)
      t.equal(asked.length, 1)
      t.equal(asked[0]!.sql, triggerSql([people], { channel: `channel_${installTriggers}` }))
      await sql(asked[0]!.sql!)
      await sql(asked[0]!.sql!)
      await until('trust comes', () => bus.status().trusted)
      await bus.close()
    }
    await sql('DROP ROLE app')
  })

  t.test('wait for a table that is made later', async t => {
    const { sql, start } = await database(t, patient)
    await sql('DROP TABLE people')
    const bus = await start()
    t.match(bus.status(), { trusted: false, reason: 'The table "people" does not exist' })
    await sql(peopleSql)
    await until('trust comes', () => bus.status().trusted)
  })
})
