import { readMarkSql, type PoolLike, type UserChange } from '@orientor/session-contract/core'
import { testServer, until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { InvalidationBus } from '../src/core.js'
import { maxChanges, surveyAgeMs } from '../src/outbox/outbox-client.js'
import { outboxFunctions } from '../src/outbox/outbox-functions.js'
import { outboxSql, postgresBus, uninstallOutbox } from '../src/postgres.js'
import { database, hashOf, hastened, issuer, patient, people, peopleSql, quietPool, type Bench } from './fixtures/watched-database.js'

/** Waits until a user was announced, with any revision or the one given, or all were. */
async function hears (changes: readonly UserChange[], subject: string, revision?: number): Promise<void> {
  const keyHash = hashOf(subject)
  await until(`${subject} is heard`, () => changes.some(change => change.kind === 'all' || (change.keyHash === keyHash && (revision === undefined || change.revision === revision))))
}

/** Waits until an instant that lies after this call is proven. */
async function proven (bus: InvalidationBus): Promise<void> {
  const nowMs = performance.now()
  await until('a later proof', () => bus.trust.provenAtMs > nowMs)
}

/** A pool of one connection that has no reserve, and the way to leave a transaction open on it. */
function onePool (url: string, t: Pick<Test, 'teardown'>): { readonly pool: PoolLike, leave (sql: string): Promise<pg.PoolClient> } {
  const inner = quietPool({ connectionString: url, max: 1 })
  t.teardown(() => inner.end())
  return {
    pool: {
      query: statement => inner.query(statement as unknown as string) as unknown as ReturnType<PoolLike['query']>,
      connect: () => inner.connect() as unknown as ReturnType<PoolLike['connect']>
    },
    leave: async sql => {
      const client = await inner.connect()
      await client.query(sql)
      client.release()
      return client
    }
  }
}

/** Makes what was committed so far due to be removed: twice, since the snapshot of one removal is the limit of the next. */
async function prune (sql: Bench['sql'], times = 2): Promise<void> {
  for (let round = 0; round < times; round++) {
    await sql("UPDATE orientor_outbox_horizon SET taken_at = taken_at - interval '1 hour'")
    await sql(`SELECT ${outboxFunctions.checkIn.name}('00000000-0000-4000-8000-000000000000', '{}')`)
  }
}

const rowsOf = async (sql: Bench['sql']): Promise<number> => Number((await sql('SELECT count(*) FROM orientor_outbox_changes')).rows[0].count)

t.test('a poll proves nothing', async t => {
  t.test('in a REPEATABLE READ transaction that was left open on the connection, and nothing is lost', async t => {
    const { directUrl, sql, start, changes } = await database(t, patient)
    const { pool, leave } = onePool(directUrl, t)
    const bus = await start({ pool })
    t.match(bus.status(), { trusted: true })
    const { epoch } = bus.trust
    for (const subject of ['a', 'b', 'c']) {
      await leave('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1')
      await sql('INSERT INTO people (sub) VALUES ($1)', [subject])
      const writtenAtMs = performance.now()
      await until('a proof of what is later, or it is heard', () => bus.trust.provenAtMs > writtenAtMs || changes.length > 0)
      t.ok(changes.length > 0, 'it is heard first')
      await proven(bus)
      changes.length = 0
    }
    t.equal(bus.trust.epoch, epoch)
  })

  t.test('in a transaction that was left open and has written, whose connection is closed, and nothing is lost', async t => {
    const { directUrl, sql, start, changes } = await database(t, patient)
    const { pool, leave } = onePool(directUrl, t)
    await sql(outboxSql([people]))
    const bus = await start({ pool, installTriggers: false })
    const { epoch } = bus.trust
    const reasons: string[] = []
    bus.onTrust(({ trusted, reason }) => { if (!trusted) reasons.push(reason) })
    await leave("BEGIN; INSERT INTO people (sub) VALUES ('a')")
    await sql("INSERT INTO people (sub) VALUES ('b')")
    await hears(changes, 'b')
    await proven(bus)
    t.match(reasons, [/left open and has written/])
    t.equal((await sql("SELECT FROM people WHERE sub = 'a'")).rowCount, 0, 'what was left open is rolled back')
    t.equal(bus.trust.epoch, epoch)
    await bus.close()
    for (const text of ['BEGIN', "BEGIN; DELETE FROM people WHERE sub = 'a'"]) {
      await leave(text)
      await t.rejects(uninstallOutbox(pool, [people]), { code: '25001' }, 'nothing is installed in it, or taken away, with the role of the owner')
    }
  })

  t.test('through row-level security that was switched on by hand, even with FORCE', async t => {
    const { sql, start, changes } = await database(t, patient)
    // Its owner is no superuser, whom it would not hold for.
    await sql('CREATE ROLE owner; GRANT CREATE ON SCHEMA public TO owner; ALTER TABLE people OWNER TO owner')
    const bus = await start()
    t.match(bus.status(), { trusted: true })
    for (const table of ['changes', 'mark', 'horizon']) {
      const { epoch } = bus.trust
      await sql(`ALTER TABLE orientor_outbox_${table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`)
      await sql('INSERT INTO people (sub) VALUES ($1)', [`of ${table}`]).catch(() => {})
      const writtenAtMs = performance.now()
      await until('trust ends', () => !bus.status().trusted)
      t.ok(bus.trust.provenAtMs < writtenAtMs, table)
      await sql(`ALTER TABLE orientor_outbox_${table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY`)
      await until('trust is back', () => bus.trust.epoch > epoch && bus.status().trusted)
    }
    changes.length = 0
    await sql("INSERT INTO people (sub) VALUES ('z')")
    await hears(changes, 'z')
    await bus.close()
    await sql('DROP OWNED BY owner CASCADE; DROP ROLE owner')
  })
})

t.test('what is proven holds for what was read of the watched table, on this server, in a transaction that could not be old', async t => {
  const { server, sql, pool, start } = await database(t, patient)
  await sql('CREATE TABLE friends (LIKE people)')
  const bus = await start()
  const markOf = async (table: string, before = '', at: { query (text: string): Promise<pg.QueryResult> } | null = null): Promise<string> => {
    const client = await pool.connect()
    try {
      await client.query(`BEGIN; ${before}`)
      return (await (at ?? client).query(`SELECT ${readMarkSql(table)} AS mark`)).rows[0].mark as string
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
  }
  t.ok(bus.trust.covers(await markOf('people')))
  t.ok(bus.trust.covers(await markOf('"public"."people"')))
  t.ok(bus.trust.covers(undefined), 'a source that does not tell')
  t.notOk(bus.trust.covers(await markOf('friends')), 'another table')
  t.notOk(bus.trust.covers(await markOf('people', 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ')))
  t.notOk(bus.trust.covers(await markOf('people', 'SELECT pg_current_xact_id()')), 'a transaction that writes')
  const other = quietPool({ connectionString: server.url() })
  t.teardown(() => other.end())
  t.notOk(bus.trust.covers(await markOf('pg_class', '', other)), 'another database')
})

t.test('a role whose default is serializable, or repeatable read, has its polls sent in transactions of their own', async t => {
  const { url, sql, start, changes } = await database(t, patient)
  for (const level of ['serializable', 'repeatable read']) {
    changes.length = 0
    const pool = quietPool({ connectionString: url, options: `-c default_transaction_isolation=${level.replace(' ', '\\ ')}` })
    const bus = await start({ pool, clock: hastened })
    t.match(bus.status(), { trusted: true }, level)
    await until('it is counted', () => bus.status().instances !== null)
    const { epoch } = bus.trust
    await pool.query('INSERT INTO people (sub) VALUES ($1)', [level])
    await hears(changes, level)
    await bus.publish({ kind: 'all' })
    await proven(bus)
    t.equal(bus.trust.epoch, epoch)
    t.equal(Number((await sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()")).rows[0].count), 0)
    await bus.close()
    await pool.end()
  }
})

t.test('a write whose note cannot be inserted fails', async t => {
  const { sql, session, start, changes } = await database(t, patient)
  const bus = await start()
  const writer = await session()
  await sql('BEGIN; LOCK TABLE orientor_outbox_changes IN SHARE MODE')
  await writer.query("SET lock_timeout = '50ms'")
  await t.rejects(writer.query("INSERT INTO people (sub) VALUES ('a')"), { code: '55P03' })
  await sql('ROLLBACK')
  t.equal((await sql('SELECT FROM people')).rowCount, 0)
  await writer.query("INSERT INTO people (sub) VALUES ('a')")
  await hears(changes, 'a')
  t.match(bus.status(), { trusted: true })
})

t.test('what is committed late is announced then', async t => {
  t.test('by a transaction that is open across ten polls, with others that overtake it', async t => {
    const { sql, session, start, changes } = await database(t, patient)
    const bus = await start()
    const { epoch } = bus.trust
    const [late, later] = [await session(), await session()]
    await late.query("BEGIN; INSERT INTO people (sub) VALUES ('late')")
    await later.query("BEGIN; INSERT INTO people (sub) VALUES ('later')")
    for (let round = 0; round < 10; round++) {
      await sql('INSERT INTO people (sub) VALUES ($1)', [`early ${round}`])
      await hears(changes, `early ${round}`)
      await proven(bus)
    }
    t.equal(changes.length, 10)
    await later.query('COMMIT')
    await hears(changes, 'later')
    await late.query('COMMIT')
    await hears(changes, 'late')
    await proven(bus)
    t.equal(changes.length, 12, 'each once')
    t.equal(bus.trust.epoch, epoch)
  })

  t.test('from savepoints, without what was rolled back to one', async t => {
    const { session, start, changes } = await database(t, patient)
    const bus = await start()
    const writer = await session()
    await writer.query(`BEGIN; SAVEPOINT a; INSERT INTO people (sub) VALUES ('kept'); RELEASE a;
      SAVEPOINT b; INSERT INTO people (sub) VALUES ('gone'); ROLLBACK TO b; SAVEPOINT c; INSERT INTO people (sub) VALUES ('open')`)
    await proven(bus)
    await proven(bus)
    await writer.query('COMMIT')
    for (const subject of ['kept', 'open']) await hears(changes, subject)
    await proven(bus)
    t.equal(changes.length, 2)
  })

  t.test('by a transaction that was prepared', async t => {
    const server = await testServer(t, { max_prepared_transactions: '5' })
    const { sql, start, changes } = await database(t, patient, { server, url: await server.createDatabase() })
    const bus = await start()
    const { epoch } = bus.trust
    await sql("BEGIN; INSERT INTO people (sub) VALUES ('kept'); PREPARE TRANSACTION 'one'")
    await sql("BEGIN; INSERT INTO people (sub) VALUES ('gone'); PREPARE TRANSACTION 'two'")
    await proven(bus)
    await proven(bus)
    await sql("COMMIT PREPARED 'one'")
    await sql("ROLLBACK PREPARED 'two'")
    await hears(changes, 'kept')
    await proven(bus)
    t.equal(changes.length, 1)
    t.equal(bus.trust.epoch, epoch)
  })

  t.test('after which the user was deleted and made again with a smaller revision', async t => {
    const { sql, session, start, changes } = await database(t, patient)
    const bus = await start()
    await sql("INSERT INTO people (sub, rev) VALUES ('a', 4)")
    await hears(changes, 'a')
    await proven(bus)
    changes.length = 0
    const early = await session()
    await early.query('BEGIN; SELECT pg_current_xact_id()')
    await sql("UPDATE people SET email = 'x', rev = 5 WHERE sub = 'a'")
    await early.query("DELETE FROM people WHERE sub = 'a'; INSERT INTO people (sub, rev) VALUES ('a', 1); COMMIT")
    await until('it is heard without a revision', () => changes.some(change => change.kind === 'user' && change.revision === null))
  })
})

t.test('a transaction of thousands of users', async t => {
  const { sql, start, changes } = await database(t, patient)
  const bus = await start()
  const { epoch } = bus.trust
  await sql(`INSERT INTO people (sub) SELECT 'a' || i FROM generate_series(1, ${maxChanges}) AS i`)
  await Promise.all(['a1', 'a2500', `a${maxChanges}`].map(subject => hears(changes, subject)))
  await proven(bus)
  t.equal(bus.trust.epoch, epoch, 'is announced')
})

t.test('more changed users between two polls than an answer holds begin a new epoch', async t => {
  const { sql, start, proxy } = await database(t, patient)
  const bus = await start()
  const { epoch } = bus.trust
  proxy.mode = 'stall'
  for (let round = 0; round < Math.ceil((maxChanges + 1) / 500); round++) await sql(`INSERT INTO people (sub) SELECT '${round}-' || i FROM generate_series(1, 500) AS i`)
  proxy.mode = 'pass'
  await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
  const { epoch: second } = bus.trust
  await proven(bus)
  t.equal(bus.trust.epoch, second)
})

t.test('more changes than an answer holds begin a new epoch, also where most of them are of one user', async t => {
  const { sql, start, proxy, changes } = await database(t, patient)
  await sql("INSERT INTO people (sub) VALUES ('often'), ('once')")
  const bus = await start()
  const { epoch } = bus.trust
  proxy.mode = 'stall'
  for (let round = 0; round < Math.ceil(maxChanges / 900) + 1; round++) {
    await sql("DO $$ BEGIN FOR i IN 1..900 LOOP UPDATE people SET email = rev::text, rev = rev + 1 WHERE sub = 'often'; END LOOP; END $$")
  }
  await sql("UPDATE people SET email = 'x', rev = 2 WHERE sub = 'once'")
  proxy.mode = 'pass'
  await proven(bus)
  const keyHash = hashOf('once')
  t.ok(bus.trust.epoch > epoch || changes.some(change => change.kind === 'all' || change.keyHash === keyHash), 'the one that came last is not lost')
})

t.test('what is removed', async t => {
  t.test('before an instance read it is a gap, and begins a new epoch', async t => {
    const { sql, start, proxy, changes } = await database(t)
    const bus = await start()
    await until('trust comes', () => bus.status().trusted)
    const { epoch } = bus.trust
    proxy.mode = 'refuse'
    proxy.reset()
    await until('trust ends', () => !bus.status().trusted)
    const { provenAtMs } = bus.trust
    await sql("INSERT INTO people (sub) VALUES ('a')")
    await prune(sql)
    t.equal(await rowsOf(sql), 0)
    t.equal(bus.trust.provenAtMs, provenAtMs)
    proxy.mode = 'pass'
    await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
    t.ok(bus.trust.lastProofOf(epoch)!.monotonicMs <= provenAtMs)
    t.equal(changes.length, 0)
  })

  t.test('is no gap for an instance that polls all the while, although a transaction stays open', async t => {
    const { sql, session, start, changes } = await database(t, patient)
    const bus = await start()
    const late = await session()
    await late.query("BEGIN; INSERT INTO people (sub) VALUES ('late')")
    const { epoch } = bus.trust
    const pruneSlowly = async (): Promise<void> => {
      for (let round = 0; round < 2; round++) {
        await proven(bus)
        await prune(sql, 1)
      }
      await proven(bus)
    }
    for (let round = 0; round < 5; round++) {
      await sql('INSERT INTO people (sub) VALUES ($1)', [`early ${round}`])
      await hears(changes, `early ${round}`)
      await pruneSlowly()
    }
    t.equal(bus.trust.epoch, epoch)
    t.equal(await rowsOf(sql), 0, 'the others are gone')
    await late.query('COMMIT')
    await hears(changes, 'late')
    await pruneSlowly()
    t.equal(bus.trust.epoch, epoch)
    t.equal(await rowsOf(sql), 0, 'and in the end that one, too')
  })

  t.test('is not what was committed within the retention', async t => {
    const { sql, start } = await database(t, patient)
    await start()
    await sql("INSERT INTO people (sub) VALUES ('a')")
    await sql(`SELECT ${outboxFunctions.checkIn.name}('00000000-0000-4000-8000-000000000000', '{}')`)
    await prune(sql, 1)
    t.equal(await rowsOf(sql), 1, 'the snapshot that was taken before it does not see it')
    await prune(sql, 1)
    t.equal(await rowsOf(sql), 0)
  })

  t.test('is removed where a publication is for all tables', async t => {
    const { sql, start, changes } = await database(t, patient)
    const bus = await start()
    await sql('CREATE PUBLICATION everything FOR ALL TABLES')
    await sql("INSERT INTO people (sub) VALUES ('a')")
    await hears(changes, 'a')
    await prune(sql)
    t.equal(await rowsOf(sql), 0)
    await proven(bus)
  })
})

t.test('an outbox that is emptied, rewritten or tampered with begins a new epoch', async t => {
  const { sql, start, changes } = await database(t, patient)
  const bus = await start()
  await sql("CREATE FUNCTION nought() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
  const quiet = 'CREATE RULE quiet AS ON INSERT TO orientor_outbox_changes DO INSTEAD NOTHING'
  const loud = 'CREATE TRIGGER loud BEFORE INSERT ON orientor_outbox_changes FOR EACH ROW EXECUTE FUNCTION nought()'
  for (const harm of [
    'TRUNCATE orientor_outbox_changes', 'TRUNCATE orientor_outbox_mark', 'VACUUM FULL orientor_outbox_changes', 'VACUUM FULL orientor_outbox_mark',
    quiet, quiet, loud, loud, 'ALTER TABLE orientor_outbox_changes SET UNLOGGED', 'GRANT INSERT ON orientor_outbox_changes TO PUBLIC'
  ]) {
    const { epoch } = bus.trust
    await sql(harm)
    if (harm.startsWith('CREATE')) {
      const harmedAtMs = performance.now()
      await until('it is not trusted', () => !bus.status().trusted)
      t.ok(bus.trust.provenAtMs <= harmedAtMs)
      await sql(harm === quiet ? 'DROP RULE quiet ON orientor_outbox_changes' : 'DROP TRIGGER loud ON orientor_outbox_changes')
    }
    await until(`a new epoch after ${harm}`, () => bus.trust.epoch > epoch && bus.status().trusted)
  }
  const { epoch } = bus.trust
  await sql('REINDEX TABLE orientor_outbox_changes')
  await sql('VACUUM orientor_outbox_changes; ')
  await sql('ANALYZE orientor_outbox_changes')
  await proven(bus)
  t.equal(bus.trust.epoch, epoch, 'and what is only kept in order does not')
  await sql("INSERT INTO people (sub) VALUES ('a')")
  await hears(changes, 'a')
})

t.test('a copy of a database, and rows of another server whose transactions are ahead, are begun anew', async t => {
  const { directUrl, server, sql, start } = await database(t, patient)
  const bus = await start()
  await sql("INSERT INTO people (sub) VALUES ('a')")
  await proven(bus)
  await bus.close()
  const name = new URL(directUrl).pathname.slice(1)
  await sql("INSERT INTO orientor_outbox_changes VALUES ((pg_current_xact_id()::text::bigint + 1000000)::text::xid8, sha256('x'), 1)")
  const admin = new pg.Client({ connectionString: server.url() })
  await admin.connect()
  t.teardown(async () => {
    await server.dropDatabase(`${name}_copy`)
    await admin.end()
  })
  await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [name])
  await admin.query(`CREATE DATABASE ${name}_copy TEMPLATE ${name}`)
  const copied = quietPool({ connectionString: server.url(`${name}_copy`) })
  t.teardown(() => copied.end())
  const changes: UserChange[] = []
  const copy = postgresBus({ pool: copied as unknown as PoolLike, ...patient })
  t.teardown(() => copy.close())
  copy.subscribe(change => { changes.push(change) })
  const tokens = async (): Promise<string> => (await copied.query('SELECT token::text FROM orientor_outbox_mark')).rows[0].token as string
  const before = await tokens()
  await copy.start({ watches: [people], report: () => {} })
  t.match(copy.status(), { trusted: true })
  t.not(await tokens(), before)
  t.equal(Number((await copied.query('SELECT count(*) FROM orientor_outbox_changes')).rows[0].count), 0, 'what was brought is removed')
  await copied.query("INSERT INTO people (sub) VALUES ('b')")
  await hears(changes, 'b')
  t.equal(changes.length, 1)
})

t.test('another database behind the same address begins a new epoch', async t => {
  const { directUrl, server, sql, proxy, start, changes } = await database(t, patient)
  const bus = await start()
  const { epoch } = bus.trust
  const other = await testServer(t)
  const url = await other.createDatabase(new URL(directUrl).pathname.slice(1))
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  t.teardown(() => admin.end())
  await admin.query(peopleSql)
  await admin.query(`ALTER ROLE postgres PASSWORD '${decodeURIComponent(new URL(directUrl).password)}'`)
  proxy.retarget(other.port)
  proxy.reset()
  await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted)
  await admin.query("INSERT INTO people (sub) VALUES ('there')")
  await sql("INSERT INTO people (sub) VALUES ('here')")
  await hears(changes, 'there')
  const { epoch: second } = bus.trust
  proxy.retarget(server.port)
  proxy.reset()
  await until('and one more on the way back', () => bus.trust.epoch > second && bus.status().trusted)
})

t.test('rows whose transactions are ahead of the server are not told before their number is given out', async t => {
  const { sql, start, changes } = await database(t, patient)
  const bus = await start()
  await sql("INSERT INTO orientor_outbox_changes VALUES ((pg_current_xact_id()::text::bigint + 1000000)::text::xid8, sha256('x'), 1)")
  await proven(bus)
  await proven(bus)
  t.same(changes, [])
})

t.test('a table of many parts', async t => {
  t.test('is watched by a survey that is made once for all, and what was written while a part was not is never proven', async t => {
    const { sql, start, changes } = await database(t, patient)
    await sql(`CREATE TABLE parted (sub text, rev bigint DEFAULT 1, email text) PARTITION BY HASH (sub);
      DO $$ BEGIN FOR i IN 0..19 LOOP EXECUTE format('CREATE TABLE parted_%s PARTITION OF parted FOR VALUES WITH (MODULUS 20, REMAINDER %s)', i, i); END LOOP; END $$`)
    const watches = [{ table: 'parted', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'] }]
    const buses = await Promise.all([start({}, watches), start({}, watches), start({}, watches)])
    for (const bus of buses) {
      await until('it is trusted', () => bus.status().trusted)
      await proven(bus)
    }
    const bus = buses[0]!
    const epochs = buses.map(({ trust }) => trust.epoch)
    await sql("INSERT INTO parted (sub) VALUES ('a')")
    await hears(changes, 'a')
    for (const one of buses) await proven(one)
    t.same(buses.map(({ trust }) => trust.epoch), epochs)
    t.equal(Number((await sql('SELECT count(*) FROM orientor_outbox_surveys')).rows[0].count), 1)
    const ages: number[] = []
    for (let round = 0; round < 20; round++) {
      await new Promise(resolve => { setTimeout(resolve, 20) })
      ages.push(performance.now() - bus.trust.provenAtMs)
    }
    t.comment(JSON.stringify({ surveyAgeMs, oldestProofMs: Math.round(Math.max(...ages)) }))
    // Dropped, written, and back, all between two surveys.
    const { rows: [{ tgname }] } = await sql("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'orientor%truncate' LIMIT 1")
    await sql(`DROP TRIGGER ${tgname} ON parted_7; TRUNCATE parted_7`)
    const droppedAtMs = performance.now()
    await until('a new epoch', () => bus.trust.epoch > epochs[0]! && bus.status().trusted)
    t.ok(bus.trust.lastProofOf(epochs[0]!)!.monotonicMs <= droppedAtMs, 'what was written meanwhile was not proven')
    t.equal((await sql('SELECT FROM pg_trigger WHERE tgname = $1', [tgname])).rowCount, 21, 'it is mended')
    await proven(bus)
  })
})
