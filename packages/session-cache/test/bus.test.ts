import type { PoolLike, UserChange, WatchedTable } from '@orientor/session-contract/core'
import { ManualClock, until, withoutPgBouncer } from '@orientor/test-kit'
import t from 'tap'
import { announcementOf, changeOf } from '../src/coherence/announcement.js'
import type { InvalidationBus } from '../src/core.js'
import { outboxSql, postgresBus, uninstallOutboxSql, type PostgresBusOptions } from '../src/postgres.js'
import { busConformance, memoryBus, MemoryHub, type BusHarness } from '../src/testing.js'
import { database, hashOf, hastened, patient, people, quick, quietPool } from './fixtures/watched-database.js'

t.test('the bus in memory', async t => {
  for (const { title, run } of busConformance) {
    t.test(title, async () => {
      const hub = new MemoryHub()
      const clock = new ManualClock()
      await run({
        create: async () => memoryBus({ hub, clock }),
        start: bus => bus.start({ watches: [], report: () => {} }),
        silence: async () => { hub.hold() },
        refuse: async () => { hub.refuse() },
        heal: async () => { hub.heal() },
        until: async (what, condition) => {
          for (let step = 0; step < 1000 && !condition(); step++) {
            clock.advance(10)
            await clock.settle(1)
          }
          if (!condition()) throw new Error(`Not within 10 s: ${what}`)
        },
        pass: async ms => { clock.advance(ms) },
        nowMs: () => clock.monotonic()
      })
    })
  }
})

for (const [way, pooled] of [['', undefined], [', through PgBouncer in transaction mode', { default_pool_size: '2' }]] as const) {
  t.test(`the bus over PostgreSQL${way}`, { skip: pooled === undefined ? false : withoutPgBouncer }, async t => {
    for (const { title, run } of busConformance) {
      t.test(title, async t => {
        const { proxy, make, pool } = await database(t, quick, pooled === undefined ? {} : { pooled })
        await run({
          create: async () => make({ clock: hastened }),
          start: bus => bus.start({ watches: [people], pool, report: () => {} }),
          silence: async () => { proxy.mode = 'black hole' },
          refuse: async () => {
            proxy.mode = 'refuse'
            proxy.reset()
          },
          heal: async () => {
            proxy.mode = 'pass'
            await new Promise(resolve => { setImmediate(resolve) }) // it listens again
          },
          until: (what, condition) => until(what, condition),
          pass: ms => new Promise(resolve => { setTimeout(resolve, ms) }),
          nowMs: () => performance.now()
        } satisfies BusHarness)
      })
    }
  })
}

t.test('announcements', async t => {
  t.test('are read as they are written, and nothing else is read', async t => {
    const keyHash = hashOf('user_1')
    for (const change of [{ kind: 'all' }, { kind: 'user', keyHash, revision: null }, { kind: 'user', keyHash, revision: 12 }] as UserChange[]) {
      t.same(changeOf(announcementOf(change)), change)
    }
    t.same(changeOf(`${keyHash} 9223372036854775807`), { kind: 'user', keyHash, revision: null })
    for (const stranger of ['', 'x', '**', keyHash.toUpperCase(), keyHash.slice(1), `${keyHash} `, `${keyHash} -1`, `${keyHash} 1.5`, `${keyHash} 1 2`, `${keyHash}\n1`, `${keyHash} 99999999999999999999`, '{"id":1}', 'a'.repeat(7999)]) {
      t.equal(changeOf(stranger), null, stranger.slice(0, 20))
    }
  })
})

/** The measurements of an instrument of a bus. */
function shown (bus: InvalidationBus, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const { read } = bus.instruments!.find(one => one.name.endsWith(name))!
  return read().filter(one => Object.entries(labels).every(([label, value]) => one.labels[label] === value))[0]!.value as number
}

t.test('a bus over PostgreSQL', async t => {
  t.test('takes the pool of its options, else that of the scope, and says so where there is none', async t => {
    const { pool, url } = await database(t, patient)
    const other = quietPool({ connectionString: url, application_name: 'other' })
    t.teardown(() => other.end())
    const sessions = async (): Promise<number> => Number((await other.query(`SELECT count(*) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'other' AND pid <> pg_backend_pid()`)).rows[0].count)
    for (const [options, scope, expected] of [[{ pool: other }, pool, 1], [{}, other, 1], [{ pool }, other, 0]] as const) {
      const bus = postgresBus({ ...patient, ...options })
      await bus.start({ watches: [people], pool: scope, report: () => {} })
      t.match(bus.status(), { trusted: true })
      t.equal(await sessions(), expected)
      await bus.close()
      await until('its connection is gone', async () => await sessions() === 0)
    }
    for (const none of [null, undefined]) {
      await t.rejects(postgresBus(patient).start({ watches: [people], report: () => {}, ...none === null && { pool: none } }), { code: 'ORI_CACHE_NO_BUS_POOL' })
    }
  })

  t.test('polls over one connection of its own beside the pool of node-postgres, so that a busy pool costs no trust', async t => {
    const { start, pool, url, sql } = await database(t, patient)
    const busy = quietPool({ connectionString: url, max: 2 })
    const bus = await start({ pool: busy })
    const held = await Promise.all([busy.connect(), busy.connect()])
    const { epoch } = bus.trust
    const sinceMs = performance.now()
    await until('proofs go on', () => bus.trust.provenAtMs > sinceMs + 500)
    t.equal(bus.trust.epoch, epoch)
    t.equal(Number((await sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%orientor_outbox_poll%' AND pid <> pg_backend_pid()")).rows[0].count), 1)
    for (const client of held) client.release()
    await busy.end()
    await until('an ended pool is none of its business', () => bus.trust.provenAtMs > sinceMs + 1000)
    t.match(bus.status(), { trusted: true })
    t.equal(pool.totalCount, 0, 'nothing went over the other')
  })

  t.test('uses the reserved lane that a pool has, and ends nothing that is not its own', async t => {
    const { start, url } = await database(t, patient)
    const [app, lane] = [quietPool({ connectionString: url }), quietPool({ connectionString: url, max: 1 })]
    const pool: PoolLike = Object.assign(Object.create(app) as object, { reserved: lane }) as unknown as PoolLike
    const bus = await start({ pool })
    t.match(bus.status(), { trusted: true })
    t.equal(app.totalCount, 0)
    t.equal(lane.totalCount, 1)
    await bus.close()
    t.equal((await lane.query('SELECT 1 AS one')).rows[0].one, 1)
    await Promise.all([app.end(), lane.end()])
  })

  t.test('waits like all statements where the pool is another\'s, and finds trust again', async t => {
    const { start, url, sql, changes } = await database(t)
    const inner = quietPool({ connectionString: url, max: 1 })
    t.teardown(() => inner.end())
    const pool: PoolLike = { query: statement => (inner as unknown as PoolLike).query(statement), connect: () => (inner as unknown as PoolLike).connect() }
    const bus = await start({ pool })
    await until('trust comes', () => bus.status().trusted)
    const { epoch } = bus.trust
    const held = await inner.connect()
    await until('trust ends', () => !bus.status().trusted)
    await sql("INSERT INTO people (sub) VALUES ('a')")
    held.release()
    await until('trust comes back', () => bus.status().trusted)
    t.equal(bus.trust.epoch, epoch)
    t.same(changes, [{ kind: 'user', keyHash: hashOf('a'), revision: 1 }], 'and nothing was lost')
  })

  t.test('keeps its trust behind a pooler, whether or not that knows of prepared statements, with several instances and connections', { skip: withoutPgBouncer }, async t => {
    const { start, sql, changes } = await database(t, patient, { pooled: { default_pool_size: '2' } })
    const buses = await Promise.all([start(), start(), start()])
    for (const bus of buses) t.match(bus.status(), { trusted: true })
    const epochs = buses.map(({ trust }) => trust.epoch)
    for (let round = 0; round < 20; round++) {
      await sql('INSERT INTO people (sub) VALUES ($1)', [`user ${round}`])
      const nowMs = performance.now()
      await until('all have polled', () => buses.every(({ trust }) => trust.provenAtMs > nowMs), 5000)
    }
    t.equal(changes.length, 20 * buses.length)
    t.same(buses.map(({ trust }) => trust.epoch), epochs)
  })

  t.test('leaves no setting and no transaction behind for the next client of a pooler', { skip: withoutPgBouncer }, async t => {
    const { start, pool, sql } = await database(t, patient, { pooled: { default_pool_size: '1' } })
    const shownNow = async (): Promise<unknown> => (await pool.query(`SELECT current_setting('lock_timeout') AS lock, current_setting('statement_timeout') AS statement,
      current_setting('search_path') AS path, current_user::text AS role, pg_current_xact_id_if_assigned()::text AS xid`)).rows[0]
    const before = await shownNow()
    const bus = await start({ clock: hastened, random: () => 0 })
    await until('it is counted', () => bus.status().instances === 1)
    t.same(await shownNow(), before)
    for (let round = 0; round < 3; round++) {
      await sql('DROP TABLE orientor_outbox_changes')
      await until('it is installed anew', async () => (await sql("SELECT FROM pg_class WHERE relname = 'orientor_outbox_changes'")).rowCount === 1)
      t.same(await shownNow(), before)
    }
    t.equal(Number((await sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'")).rows[0].count), 1)
  })

  t.test('goes on in its epoch after every way to lose a connection, loses nothing, and no error escapes', async t => {
    const { start, sql, proxy, changes } = await database(t)
    const bus = await start()
    await until('trust comes', () => bus.status().trusted)
    const { epoch } = bus.trust
    const faults: Array<[string, () => unknown]> = [
      ['terminated', () => sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'")],
      ['reset', () => { proxy.reset() }],
      ['half-open', () => { proxy.silence() }],
      ['half-open one way', () => { proxy.silence('to client') }],
      ['half-open the other way', () => { proxy.silence('to server') }]
    ]
    for (const [name, harm] of faults) {
      await harm()
      const harmedAtMs = performance.now()
      for (const sub of [`during ${name}`, name]) {
        await sql('INSERT INTO people (sub, rev) VALUES ($1, 2)', [sub])
        const keyHash = hashOf(sub)
        await until(`it is heard: ${sub}`, () => changes.some(change => change.kind === 'user' && change.keyHash === keyHash))
        await until(`trust is back after ${name}`, () => bus.trust.provenAtMs > harmedAtMs && bus.status().trusted)
      }
    }
    t.equal(bus.trust.epoch, epoch)
    t.equal(changes.length, 2 * faults.length, 'each once')
  })

  t.test('leaves no session behind while polls wait for a lock', async t => {
    const { start, sql } = await database(t)
    const bus = await start()
    await until('trust comes', () => bus.status().trusted)
    const before = shown(bus, 'polls')
    await sql('BEGIN; LOCK TABLE orientor_outbox_changes IN ACCESS EXCLUSIVE MODE')
    await until('it has polled several times', () => shown(bus, 'polls') >= before + 12)
    // A session that waits for a lock ends after the second for which it may.
    const sessions = Number((await sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%orientor_outbox_poll%'")).rows[0].count)
    t.ok(sessions <= 8, `${sessions} sessions`)
    await sql('ROLLBACK')
    await until('trust is back', () => bus.status().trusted)
    await until('the sessions are gone', async () =>
      Number((await sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%orientor_outbox_poll%' AND pid <> pg_backend_pid()")).rows[0].count) <= 1)
  })

  t.test('is not put off by an event loop that stalls for longer than a poll may take', async t => {
    const { start, directUrl } = await database(t)
    const pool = quietPool({ connectionString: directUrl }) // the proxy would stall, too
    t.teardown(() => pool.end())
    const bus = await start({ pool })
    await until('it has settled', () => bus.trust.provenAtMs > 0)
    const { epoch } = bus.trust
    for (let round = 0; round < 3; round++) {
      const untilMs = performance.now() + 500
      while (performance.now() < untilMs);
      await new Promise(resolve => { setTimeout(resolve, 50) })
    }
    const stalledUntilMs = performance.now()
    await until('a proof from after the stall', () => bus.trust.provenAtMs > stalledUntilMs)
    t.equal(bus.trust.epoch, epoch)
  })

  t.test('refuses at the start to watch columns that are not there, and names those that are', async t => {
    const { start, sql } = await database(t, patient)
    await sql('CREATE SCHEMA apart; CREATE TABLE apart.people (sub text, iss text, "eMail" text); CREATE TABLE child () INHERITS (people)')
    const apart: WatchedTable = { schema: 'apart', table: 'people', issuer: 'iss', subject: 'sub', revision: null, columns: ['eMail'] }
    const wrong: ReadonlyArray<readonly [WatchedTable, string]> = [
      [{ ...people, columns: ['emial', 'profile'] }, 'The table "people" has no column "emial". Its columns are sub, rev, email, profile, seen'],
      [{ ...people, subject: 'subject' }, 'no column "subject"'],
      [{ ...people, revision: 'version' }, 'no column "version"'],
      [{ ...people, table: 'child', columns: ['a', 'b'] }, 'The table "child" has no column "a", "b"'],
      [{ ...apart, columns: ['email'] }, 'The table "apart"."people" has no column "email". Its columns are sub, iss, eMail'],
      [{ ...apart, issuer: 'issuer' }, 'no column "issuer"']
    ]
    for (const installTriggers of [true, false]) {
      for (const [watch, message] of wrong) {
        const error = await start({ installTriggers }, [people, watch]).then(() => null, (error: unknown) => error as Error & { code: string })
        t.equal(error?.code, 'ORI_CONTRACT_INVALID_OPTION', message)
        t.ok(error?.message.includes(message), String(error))
      }
    }
    t.equal((await sql("SELECT FROM pg_class WHERE relname LIKE 'orientor%'")).rowCount, 0, 'nothing was installed')
    await until('every connection is gone', async () => Number((await sql('SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')).rows[0].count) === 0)
    const mended = await start({}, [people, apart])
    t.match(mended.status(), { trusted: true })
  })

  t.test('that cannot ask at the start says that columns are not there later, once, before it installs anything, and goes on when they are there', async t => {
    const { start, sql, news, proxy } = await database(t)
    proxy.mode = 'refuse'
    const bus = await start({}, [{ ...people, columns: ['phone'] }])
    t.match(bus.status(), { trusted: false, remedy: /the pool reaches the primary/ })
    proxy.mode = 'pass'
    await until('it is said', () => news.some(({ message }) => message.includes('has no column "phone"')))
    await until('it is the reason', () => bus.status().reason.includes('has no column "phone"'))
    t.equal(news.length, 1)
    t.equal((await sql("SELECT FROM pg_class WHERE relname LIKE 'orientor%'")).rowCount, 0)
    await sql('ALTER TABLE people ADD COLUMN phone text')
    await until('trust comes', () => bus.status().trusted)
    t.notOk('remedy' in bus.status())
    await sql('ALTER TABLE people DROP COLUMN phone CASCADE')
    const { epoch } = bus.trust
    await until('it goes on without it', () => bus.trust.epoch >= epoch && bus.status().trusted)
    t.equal(news.filter(({ message }) => message.includes('no column')).length, 1)
  })

  t.test('removes its own row when it closes, and reports nothing', async t => {
    const { start, news, sql } = await database(t, patient)
    const instances = async (): Promise<number> => Number((await sql('SELECT count(*) FROM orientor_outbox_instances')).rows[0].count)
    const bus = await start()
    await until('it is counted', () => bus.status().instances === 1)
    t.equal(await instances(), 1)
    news.length = 0
    await bus.close()
    t.same(news, [])
    t.equal(await instances(), 0)
    await until('the server knows', async () => Number((await sql('SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')).rows[0].count) === 0)
    t.match(bus.status(), { trusted: false, instances: null })
    await bus.close()
  })

  t.test('is counted out when it has gone without a word', async t => {
    const { start, sql } = await database(t, patient)
    const [first, second] = [await start({ clock: hastened }), await start({ clock: hastened })]
    await until('both are counted', () => first.status().instances === 2 && second.status().instances === 2)
    await sql("INSERT INTO orientor_outbox_instances VALUES (gen_random_uuid(), now() - interval '30 s', '{}'), (gen_random_uuid(), now() - interval '60 s', '{}')")
    await until('one that was seen half a minute ago', () => first.status().instances === 3)
    await sql("UPDATE orientor_outbox_instances SET seen_at = seen_at - interval '25 s'")
    await until('is gone', () => first.status().instances === 2)
  })

  t.test('refuses options that cannot hold, and says what to write', async t => {
    const refused = (options: object, message: RegExp): void => {
      t.throws(() => postgresBus(options as PostgresBusOptions), { code: 'ORI_CONTRACT_INVALID_OPTION', message }, JSON.stringify(options))
    }
    t.doesNotThrow(() => postgresBus())
    refused({ maxStalenessMs: 2200 }, /above pollIntervalMs \+ pollTimeoutMs \(200 \+ 2000\).*received 2200\. Write for example maxStalenessMs: 4200, or for a bound of 2200 pollIntervalMs: 220 and pollTimeoutMs: 880/)
    t.doesNotThrow(() => postgresBus({ pollIntervalMs: 220, pollTimeoutMs: 880, maxStalenessMs: 2200 }))
    refused({ pollIntervalMs: 19 }, /option "pollIntervalMs".*20/)
    refused({ pool: {} }, /option "pool"/)
    refused({ pool: 'postgres://user:secret@host/db' }, /option "pool"(?!.*secret)/)
    refused({ bell: {} }, /option "bell"/)
    for (const schema of ['', "o'brien", 'a$b', 'a@b', 'a\\b', 's'.repeat(64), 7]) refused({ schema }, /option "schema" must be the name of a schema/)
    for (const gone of ['listenUrl', 'connection', 'channel', 'applicationName', 'heartbeatIntervalMs', 'heartbeatTimeoutMs']) refused({ [gone]: 'postgres://u:secret@h/db' }, new RegExp(`"${gone}"(?!.*secret)`))
    await t.rejects(postgresBus().start({ watches: [], report: () => {} }), { message: /nothing to watch/ })
    const bad = [{ table: 't'.repeat(64) }, { table: '' }, { subject: 7 }, { issuer: {} }, { issuer: 'i\0' }, { schema: null }, { revision: undefined }, { columns: 'email' }, { columns: ['ü'.repeat(32)] }, { exactRevision: 'yes' }, { harmlessTriggers: 'x' }, { harmlessTriggers: [null] }] as unknown as Array<Partial<WatchedTable>>
    for (const part of bad) {
      const watches = [{ ...people, ...part }]
      refused({ watches }, /option "watches" must be a list of tables .* at most 63 bytes/)
      for (const sqlOf of [outboxSql, uninstallOutboxSql]) t.throws(() => sqlOf(watches), { code: 'ORI_CONTRACT_INVALID_OPTION' })
      await t.rejects(postgresBus().start({ watches, report: () => {} }), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /what the source watches must be a list of tables/ })
    }
    for (const sqlOf of [outboxSql, uninstallOutboxSql]) t.throws(() => sqlOf([]), { code: 'ORI_CONTRACT_INVALID_OPTION' })
  })
})
