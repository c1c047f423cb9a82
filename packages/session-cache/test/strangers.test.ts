import { until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { OutboxClient } from '../src/outbox/outbox-client.js'
import { outboxFunctions } from '../src/outbox/outbox-functions.js'
import { triggersFor } from '../src/outbox/noting-triggers.js'
import { outboxSql } from '../src/postgres.js'
import { database, hashOf, patient, people, quietPool, type Bench } from './fixtures/watched-database.js'

// What a role may do to an outbox that has no right to the users, or no more than to read them.

/** A session of a new role, which has the rights that are given. */
async function sessionOf (t: Test, { directUrl, sql }: Bench, role: string, grants: string): Promise<pg.Client> {
  await sql(`CREATE ROLE ${role} LOGIN PASSWORD '${role}'; ${grants}`)
  const url = new URL(directUrl)
  url.username = url.password = role
  const client = new pg.Client({ connectionString: url.href })
  await client.connect()
  client.on('error', () => {})
  t.teardown(async () => {
    await client.end()
    await sql(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`)
  })
  return client
}

/** Puts the outbox in place, as an operator does: once more while a bus is at the same. */
async function install ({ sql }: Bench): Promise<void> {
  await until('the outbox is in place', async () => {
    return await sql(outboxSql([people])).then(() => true, (error: { readonly code?: string }) => {
      if (error.code !== '55P03') throw error
      return false
    })
  })
}

const call = (which: keyof typeof outboxFunctions, args: string): string => `SELECT * FROM ${outboxFunctions[which].name}(${args})`
const id = "'00000000-0000-4000-8000-000000000001'"
const names = triggersFor([people], true)

t.test('a role that may not read users may call no function of the outbox', async t => {
  const bench = await database(t, patient)
  await install(bench)
  const stranger = await sessionOf(t, bench, 'stranger', '')
  const calls = [
    call('poll', "NULL, ARRAY['people'::regclass]::oid[], false, 10"), call('tail', 'NULL, 10'), call('begin', ''),
    call('survey', "ARRAY['people'::regclass]::oid[], '1 s'"), call('note', 'NULL, NULL'), call('checkIn', `${id}, '{}'`),
    call('checkOut', id), call('lead', id)
  ]
  t.equal(calls.length, Object.keys(outboxFunctions).length)
  for (const text of calls) await t.rejects(stranger.query(text), { code: '42501' }, text)
  const bus = await bench.start({ pool: quietPoolAs(t, bench, 'stranger'), installTriggers: false })
  t.match(bus.status(), { trusted: false, reason: /may not call the functions of the outbox.*outboxSql/ })
  await bench.sql(`GRANT SELECT (sub) ON people TO stranger; ${outboxSql([people])}`)
  await until('it is trusted', () => bus.status().trusted)
  await bus.close()
})

t.test('no other table can have the function of a trigger called, which runs with the rights of its owner', async t => {
  const bench = await database(t, patient)
  await install(bench)
  const reader = await sessionOf(t, bench, 'reader', 'GRANT SELECT ON people TO reader')
  await reader.query('CREATE TEMPORARY TABLE mine (sub text, rev bigint, email text, profile json)')
  for (const { name } of names) {
    await t.rejects(reader.query(`CREATE TRIGGER its AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION public.${name}()`), { code: '42501' })
  }
  const bus = await bench.start()
  t.match(bus.status(), { trusted: true })
  await bench.sql(`GRANT EXECUTE ON FUNCTION ${names[0]!.name} TO PUBLIC; COMMENT ON TABLE people IS ''`)
  await bus.close()
  const again = await bench.start()
  t.match(again.status(), { trusted: true }, 'it is put right')
  await t.rejects(reader.query(`CREATE TRIGGER its AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION public.${names[0]!.name}()`), { code: '42501' })
})

t.test('a function that another role has put there beforehand is not called', async t => {
  const bench = await database(t, patient)
  const trudy = await sessionOf(t, bench, 'trudy', 'GRANT CREATE ON SCHEMA public TO trudy; CREATE TABLE called (by text); GRANT INSERT ON called TO PUBLIC')
  for (const { name, parameters } of [outboxFunctions.poll, outboxFunctions.begin]) {
    await trudy.query(`CREATE FUNCTION public.${name} (${parameters}) LANGUAGE plpgsql AS $$ BEGIN INSERT INTO called VALUES (current_user); END $$`)
  }
  for (const overload of ['check_in', 'lead', 'note'].map(what => Object.values(outboxFunctions).find(({ name }) => name.includes(`_${what}_`))!.name)) {
    await trudy.query(`CREATE FUNCTION public.${overload} (text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO called VALUES (current_user); RETURN true; END $$`)
    await trudy.query(`CREATE FUNCTION public.${overload} (text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO called VALUES (current_user); RETURN true; END $$`)
  }
  const bus = await bench.start()
  await until('it is trusted', () => bus.status().trusted)
  await bus.publish({ kind: 'all' })
  t.same((await bench.sql('SELECT * FROM called')).rows, [])
})

t.test('a session that may read users and leaves a transaction open holds up no poll', async t => {
  const bench = await database(t, patient)
  const bus = await bench.start()
  const reader = await sessionOf(t, bench, 'reader', 'GRANT SELECT ON people TO reader')
  await install(bench)
  await bench.sql(`${call('lead', id.replace('1\'', '3\''))}; UPDATE orientor_outbox_relay SET until = now() - interval '1 hour'`)
  const client = new OutboxClient({ pool: quietPoolOf(t, bench.directUrl) as never, triggers: names, schema: 'public', clock: patientClock, timeoutMs: 5000, instance: '00000000-0000-4000-8000-000000000002' })
  await reader.query(`BEGIN; ${call('lead', id)}; ${call('survey', "ARRAY['people'::regclass]::oid[], '0'")}; ${call('checkIn', `${id}, '{}'`)}`)
  const before = performance.now()
  t.equal(await client.lead(), false)
  const [row] = (await bench.sql(call('survey', "ARRAY['people'::regclass]::oid[], '0'")).catch(error => ({ rows: [{ made: error.code }] }))).rows
  t.match(String(row.made), /^(?:false|55P03)$/, 'it is not waited for')
  t.ok((await client.checkIn()).instances >= 1)
  t.ok(performance.now() - before < 2000, 'within a moment')
  const { polls } = bus.trust as unknown as { readonly polls: number }
  await until('polls go on', () => (bus.trust as unknown as { readonly polls: number }).polls > polls + 2)
  t.match(bus.status(), { trusted: true })
  await reader.query('ROLLBACK')
})

t.test('what is no hash of a key, and no revision, is not noted', async t => {
  const bench = await database(t, patient)
  await install(bench)
  for (const args of ["'\\x00', 1", `'\\x${'00'.repeat(33)}', NULL`, `'\\x${hashOf('a')}', -1`]) {
    await t.rejects(bench.sql(call('note', args)), { code: '22023' }, args)
  }
  await bench.sql(call('note', `'\\x${hashOf('a')}', NULL`))
  await bench.sql(call('note', 'NULL, NULL'))
})

t.test('a survey is of the tables that it was made of, whatever it is asked for', async t => {
  const bench = await database(t, patient)
  await install(bench)
  await bench.sql(call('survey', "ARRAY['pg_class'::regclass]::oid[], '0'"))
  const { rows: [poll] } = await bench.sql(call('poll', "NULL, ARRAY['people'::regclass]::oid[], true, 10"))
  t.equal(poll.digest, null)
  await bench.sql(call('survey', "ARRAY['people'::regclass]::oid[], '0'"))
  const { rows: [surveyed] } = await bench.sql(call('poll', "NULL, ARRAY['people'::regclass]::oid[], true, 10"))
  const { rows: [inline] } = await bench.sql(call('poll', "NULL, ARRAY['people'::regclass]::oid[], false, 10"))
  t.equal(surveyed.digest, inline.digest)
  await bench.sql("UPDATE orientor_outbox_surveys SET made_at = now() + interval '1 hour'")
  const { rows: [future] } = await bench.sql(call('poll', "NULL, ARRAY['people'::regclass]::oid[], true, 10"))
  t.equal(future.surveyed_ms, 86_400_000, 'one of the future is old')
})

t.test('a copy begins without what the instances of the original told each other', async t => {
  const bench = await database(t, patient)
  await install(bench)
  await bench.sql(`${call('checkIn', `${id}, '{}'`)}; ${call('lead', id)}; ${call('survey', "ARRAY['people'::regclass]::oid[], '0'")}`)
  await bench.sql("UPDATE orientor_outbox_mark SET place = 'of the original'")
  await bench.sql(call('begin', ''))
  for (const table of ['surveys', 'instances', 'relay']) {
    t.same((await bench.sql(`SELECT FROM orientor_outbox_${table}`)).rowCount, 0, table)
  }
})

t.test('many notes are removed in parts, and told of before the first of them goes', async t => {
  const bench = await database(t, patient)
  await install(bench)
  const { rows: [{ position }] } = await bench.sql('SELECT pg_current_snapshot()::text AS position')
  await bench.sql('INSERT INTO orientor_outbox_changes SELECT pg_current_xact_id() FROM generate_series(1, 45000)')
  const removed: number[] = []
  const due = "UPDATE orientor_outbox_horizon SET taken_at = now() - interval '1 hour'"
  await bench.sql(due)
  await bench.sql(call('checkIn', `${id}, '{}'`))
  t.equal((await bench.sql('SELECT FROM orientor_outbox_changes')).rowCount, 45_000, 'seen by no snapshot yet')
  await bench.sql(due)
  for (let more = true; more;) {
    const { rows: [row] } = await bench.sql(call('checkIn', `${id}, '{}'`))
    const { rows: [{ seen }] } = await bench.sql('SELECT pg_visible_in_snapshot($1::xid8, seen) AS seen FROM orientor_outbox_horizon', [position.split(':')[1]])
    t.equal(seen, true, 'an instance that slept finds out')
    more = row.more
    removed.push((await bench.sql('SELECT FROM orientor_outbox_changes')).rowCount!)
  }
  t.same(removed, [25_000, 5000, 0])
})

t.test('a session that is read-only polls', async t => {
  const bench = await database(t, patient)
  await install(bench)
  const reader = await sessionOf(t, bench, 'reader', 'GRANT SELECT ON people TO reader; ALTER ROLE reader SET default_transaction_read_only = on')
  await install(bench)
  t.equal((await reader.query('SHOW default_transaction_read_only')).rows[0].default_transaction_read_only, 'on')
  const bus = await bench.start({ pool: quietPoolAs(t, bench, 'reader'), installTriggers: false })
  t.match(bus.status(), { trusted: true })
  await bench.sql("INSERT INTO people (sub) VALUES ('a')")
  await until('it hears', () => bench.changes.length > 0)
})

t.test('the connection of the bus is prepared as the app prepares its own', async t => {
  const bench = await database(t, patient)
  await bench.sql('CREATE SCHEMA app; CREATE TABLE app.people (LIKE people INCLUDING ALL)')
  const pool = quietPoolOf(t, bench.directUrl)
  pool.on('connect', client => { client.query('SET search_path = app').catch(() => {}) })
  const bus = await bench.start({ pool: pool as never })
  t.match(bus.status(), { trusted: true })
  await bench.sql("INSERT INTO app.people (sub) VALUES ('a')")
  await until('it hears', () => bench.changes.length > 0)
  t.match(bench.changes, [{ keyHash: hashOf('a') }])
})

const patientClock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer: (callback: () => void, delayMs: number) => {
    const timer = setTimeout(callback, delayMs)
    return { cancel: () => { clearTimeout(timer) } }
  }
}

function quietPoolOf (t: Test, connectionString: string): pg.Pool {
  const pool = quietPool({ connectionString })
  t.teardown(() => pool.end())
  return pool
}

function quietPoolAs (t: Test, { directUrl }: Bench, role: string): never {
  const url = new URL(directUrl)
  url.username = url.password = role
  return quietPoolOf(t, url.href) as never
}
