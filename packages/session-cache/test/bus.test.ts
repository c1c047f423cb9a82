import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { UserChange, WatchedTable } from '@orientor/session-contract/core'
import { makeCertificate, ManualClock, startPgBouncer, until, withoutPgBouncer } from '@orientor/test-kit'
import pg from 'pg'
import t from 'tap'
import { announcementOf, changeOf } from '../src/coherence/announcement.js'
import type { BusNews } from '../src/core.js'
import { postgresBus, triggerSql } from '../src/postgres.js'
import { busConformance, memoryBus, MemoryHub, type BusHarness } from '../src/testing.js'
import { announced, database, hashOf, patient, people } from './fixtures/watched-database.js'

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

t.test('what stands beside the connection string of a bus counts, and what the string names is read for every connection', async t => {
  const { directUrl, make, sql, url } = await database(t)
  const wrong = new URL(url)
  const { password } = wrong
  wrong.password = 'of-the-string'
  wrong.search = '?sslmode=require&schema=app'
  let asked = 0
  const news: BusNews[] = []
  const bus = postgresBus({
    ...patient,
    connection: {
      connectionString: wrong.href,
      ssl: false,
      password: async () => {
        asked++
        return password
      }
    }
  })
  t.teardown(() => bus.close())
  await bus.start({ watches: [people], report: one => { news.push(one) } })
  t.match(bus.status(), { trusted: true })
  t.match(news, [{ level: 'warn', message: /"schema", which Prisma reads/ }, { message: /trusted/ }])
  t.ok(asked >= 2, 'the one that listens, and the one that installs')
  const before = asked
  await sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'orientor-bus/%' AND datname = current_database()")
  await until('it is dialled again', () => asked > before && bus.status().trusted)

  const folder = mkdtempSync(join(tmpdir(), 'orientor-bus-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  writeFileSync(join(folder, 'authority.pem'), makeCertificate({ commonName: 'a' }).certificate)
  const withFile = make({ listenUrl: `${directUrl}?sslmode=verify-full&sslrootcert=${join(folder, 'authority.pem')}` })
  await withFile.start({ watches: [people], report: () => {} })
  t.match(withFile.status(), { trusted: false, reason: /refuses the connection that listens: the server speaks no TLS \(TLS\)\. Turn/ })
  rmSync(join(folder, 'authority.pem'))
  await until('the file is missed', () => /names a file that cannot be read: sslrootcert=.*authority\.pem \(ENOENT\)/.test(withFile.status().reason))
})

t.test('the bus over PostgreSQL', async t => {
  for (const { title, run } of busConformance) {
    t.test(title, async t => {
      const { proxy, make } = await database(t)
      await run({
        create: async () => make(),
        start: bus => bus.start({ watches: [people], report: () => {} }),
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

t.test('a bus over PostgreSQL', async t => {
  t.test('ignores what strangers send on its channel, says so once, and is not fooled by an echo of theirs', async t => {
    // A connection that is made anew because a heartbeat is late would not hear what comes in between.
    const { start, sql, heard, news, changes } = await database(t, patient)
    const bus = await start()
    await until('it listens', () => bus.status().trusted)
    for (const payload of ['', 'hello', '{"user":1}', 'x'.repeat(7999), hashOf('a').slice(0, 63)]) await sql('SELECT pg_notify($1, $2)', ['orientor_user', payload])
    t.same(await heard(), [])
    await until('all of it has arrived', () => bus.instruments!.find(({ name }) => name.endsWith('announcements'))!.read().find(({ labels }) => labels['kind'] === 'unreadable')!.value === 5)
    t.equal(news.filter(({ message }) => message.includes('Something else')).length, 1)
    t.same(changes, [])
    const pulse = /LISTEN "(orientor_pulse_\w+)"/.exec((await sql("SELECT string_agg(query, '') AS text FROM pg_stat_activity WHERE query LIKE '%orientor_pulse%'")).rows[0].text ?? '')?.[1]
    if (pulse !== undefined) for (let n = 0; n < 50; n++) await sql('SELECT pg_notify($1, $2)', [pulse, String(n)])
    await sql('SELECT pg_notify($1, $2)', ['orientor_user', `${hashOf('a')} 9007199254740993`])
    await until('it is heard', () => changes.length === 1)
    t.same(changes, [{ kind: 'user', keyHash: hashOf('a'), revision: null }])
  })

  t.test('says once that a pooler is in the way, what to do, and is not fooled by the echo that the pooler lets through', { skip: withoutPgBouncer }, async t => {
    const { url, make, news } = await database(t)
    for (const mode of ['transaction', 'session']) {
      news.length = 0
      const pooled = await startPgBouncer(t, url, { pool_mode: mode, default_pool_size: '1' })
      const bus = make({ listenUrl: pooled })
      await bus.start({ watches: [people], report: one => { news.push(one) } })
      t.match(bus.status(), { trusted: false, reason: /connection pooler/ })
      t.match(news, [{ level: 'warn', message: /direct connection as listenUrl/ }])
      t.equal(bus.trust.provenAtMs, -Infinity)
      await bus.close()
      const next = new pg.Client({ connectionString: pooled })
      await next.connect()
      t.equal((await next.query('SHOW lock_timeout')).rows[0].lock_timeout, '0', 'and leaves nothing behind for whoever comes next')
      await next.end()
    }
  })

  t.test('comes back from every way to lose a connection, and no error escapes', async t => {
    const { start, sql, proxy, heard } = await database(t)
    const bus = await start({ applicationName: 'victim' })
    const faults: Array<[string, () => unknown]> = [
      ['terminated', () => sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'victim/%'")],
      ['reset', () => { proxy.reset() }],
      ['half-open', () => { proxy.silence() }],
      ['half-open one way', () => { proxy.silence('to client') }],
      ['half-open the other way', () => { proxy.silence('to server') }]
    ]
    for (const [name, harm] of faults) {
      const { epoch } = bus.trust
      await harm()
      await sql('INSERT INTO people (sub, rev) VALUES ($1, 1)', [`during ${name}`])
      await until(`trust is back after ${name}`, () => bus.trust.epoch > epoch && bus.status().trusted)
      await heard()
      await sql('INSERT INTO people (sub, rev) VALUES ($1, 2)', [name])
      t.same(await heard(), [announced(name, 2)], name)
    }
  })

  t.test('leaves no session behind while heartbeats wait for a lock', async t => {
    const { start, sql } = await database(t)
    const bus = await start()
    await until('trust comes', () => bus.status().trusted)
    const dialled = (): number => bus.instruments!.find(({ name }) => name.endsWith('connections'))!.read()[0]!.value as number
    const before = dialled()
    await sql('BEGIN; LOCK TABLE pg_catalog.pg_trigger IN ACCESS EXCLUSIVE MODE')
    await until('it has dialled several times', () => dialled() >= before + 5)
    const sessions = (await sql("SELECT FROM pg_stat_activity WHERE application_name LIKE 'orientor-bus/%'")).rowCount!
    t.ok(sessions <= 2, `${sessions} sessions`)
    await sql('ROLLBACK')
    await until('trust is back', () => bus.status().trusted)
  })

  t.test('is not put off by a wall clock that jumps, nor by an event loop that stalls for longer than a heartbeat may take', async t => {
    const { start, directUrl } = await database(t)
    const bus = await start({ listenUrl: directUrl }) // the proxy would stall, too
    await until('it has settled', () => bus.trust.provenAtMs > 0)
    const { epoch } = bus.trust
    for (let round = 0; round < 3; round++) {
      const untilMs = performance.now() + 700
      while (performance.now() < untilMs);
      await new Promise(resolve => { setTimeout(resolve, 50) })
    }
    await until('a proof from after the stall', () => performance.now() - bus.trust.provenAtMs < 600)
    t.equal(bus.trust.epoch, epoch)
  })

  t.test('refuses at the start to watch columns that are not there, and names those that are', async t => {
    const { start, sql } = await database(t)
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
    t.equal((await sql("SELECT FROM pg_trigger WHERE tgname LIKE 'orientor%'")).rowCount, 0)
    await until('every connection is gone', async () => (await sql("SELECT FROM pg_stat_activity WHERE application_name LIKE 'orientor-bus/%'")).rowCount === 0)
    const mended = await start({}, [people, apart])
    await until('it is trusted', () => mended.status().trusted)
  })

  t.test('that cannot ask at the start says it later, once, and goes on when they are there', async t => {
    const { start, sql, news, proxy } = await database(t)
    proxy.mode = 'refuse'
    const bus = await start({}, [{ ...people, columns: ['phone'] }])
    t.match(bus.status(), { trusted: false, remedy: /primary itself/ })
    proxy.mode = 'pass'
    await until('it is said', () => news.some(({ message }) => message.includes('has no column "phone"')))
    t.match(bus.status(), { trusted: false, reason: /has no column "phone"/ })
    t.equal(news.length, 1)
    await sql('ALTER TABLE people ADD COLUMN phone text')
    const later = await start({}, [{ ...people, columns: ['phone'] }])
    await until('trust comes', () => later.status().trusted)
    t.notOk('remedy' in later.status())
  })

  t.test('takes leave without a word', async t => {
    const { start, news, sql } = await database(t)
    const bus = await start()
    news.length = 0
    await bus.close()
    t.same(news, [])
    await until('the server knows', async () => (await sql("SELECT FROM pg_stat_activity WHERE application_name LIKE 'orientor-bus/%'")).rowCount === 0)
  })

  t.test('refuses options that cannot hold, and says what to write', async t => {
    t.throws(() => postgresBus({}), { message: /either "listenUrl" or "connection"/ })
    t.throws(() => postgresBus({ listenUrl: 'postgres://x', connection: {} }), { message: /either "listenUrl" or "connection"/ })
    t.throws(() => postgresBus({ listenUrl: 'postgres://user:secret@host/db', maxStalenessMs: 2000 }), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /above heartbeatIntervalMs \+ heartbeatTimeoutMs \(1000 \+ 2000\).*Write for example maxStalenessMs: 5000, or for a bound of 2000 heartbeatIntervalMs: 400 and heartbeatTimeoutMs: 800/ })
    t.throws(() => postgresBus({ listenUrl: 'postgres://x', channel: 'a b' }), { message: /option "channel"/ })
    t.throws(() => postgresBus({ listenUrl: 'postgres://x', heartbeatIntervalMs: 100 }), { message: /from 200/ })
    t.throws(() => postgresBus({ listenUrl: 'postgres://user:secret@host/db', connection: {} }), { message: /^(?!.*secret)/ })
    t.throws(() => postgresBus({ listenUrl: 'postgres://u:secret@h1,h2/db' }), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /"listenUrl" names several hosts(?!.*secret)/ })
    t.throws(() => postgresBus({ connection: { connectionString: 'postgres://h/db?sslrootcert=/nowhere' } }), { message: /"connection" names a file that cannot be read: sslrootcert=\/nowhere/ })
    await t.rejects(postgresBus({ listenUrl: 'postgres://x' }).start({ watches: [], report: () => {} }), { message: /nothing to watch/ })
    const bad = [{ table: 't'.repeat(64) }, { table: '' }, { subject: 7 }, { issuer: {} }, { issuer: 'i\0' }, { schema: null }, { revision: undefined }, { columns: 'email' }, { columns: ['ü'.repeat(32)] }, { harmlessTriggers: 'x' }, { harmlessTriggers: [null] }] as unknown as Array<Partial<WatchedTable>>
    for (const part of bad) {
      const watches = [{ ...people, ...part }]
      t.throws(() => postgresBus({ listenUrl: 'postgres://x', watches }), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /option "watches" must be a list of tables .* at most 63 bytes/ }, JSON.stringify(part))
      t.throws(() => triggerSql(watches), { code: 'ORI_CONTRACT_INVALID_OPTION' })
      t.throws(() => postgresBus({ listenUrl: 'postgres://u:secret@h1,h2/db' }), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /"listenUrl" names several hosts(?!.*secret)/ })
      t.throws(() => postgresBus({ connection: { connectionString: 'postgres://h/db?sslrootcert=/nowhere' } }), { message: /"connection" names a file that cannot be read: sslrootcert=\/nowhere/ })
      await t.rejects(postgresBus({ listenUrl: 'postgres://x' }).start({ watches, report: () => {} }), { code: 'ORI_CONTRACT_INVALID_OPTION', message: /what the source watches must be a list of tables/ })
    }
  })
})
