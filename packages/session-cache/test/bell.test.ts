import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@orientor/session-contract/core'
import {
  freePort, makeCertificate, ManualClock, startPgBouncer, startRedis, startTcpProxy, testDatabase, testServer, until,
  withoutPgBouncer, withoutRedis, type TcpProxy
} from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { Bell, BusNews } from '../src/core.js'
import { postgresBell, type PostgresBellOptions } from '../src/postgres.js'
import { redisBell, type RedisBellOptions } from '../src/redis.js'
import { BellHub, bellConformance, memoryBell, type BellHarness } from '../src/testing.js'

/** Found silent soon, and not because the machine is busy. */
const times = { checkIntervalMs: 200, timeoutMs: 1000 }
/** The sessions of a name in the database, behind SELECT. */
const sessionsOf = (name: string) => `FROM pg_stat_activity WHERE application_name = '${name}'`
/** Lost only when the loss is told. */
const trusting = { checkIntervalMs: 3_600_000 }

t.test('the bell in memory', async t => {
  for (const { title, run } of bellConformance) {
    t.test(title, async () => {
      const hub = new BellHub()
      const clock = new ManualClock()
      await run({
        create: async () => memoryBell({ hub, clock }),
        cut: async () => { hub.cut() },
        silence: async () => { hub.silence() },
        refuse: async () => { hub.refuse() },
        heal: async () => { hub.heal() },
        say: async text => { hub.say(text) },
        until: async (what, condition) => {
          for (let step = 0; step < 2000 && !condition(); step++) {
            clock.advance(10)
            await clock.settle(1)
          }
          if (!condition()) throw new Error(`Not within 20 s: ${what}`)
        },
        pass: async ms => {
          for (let passedMs = 0; passedMs < ms; passedMs += 10) {
            clock.advance(10)
            await clock.settle(1)
          }
        },
        nowMs: () => clock.monotonic()
      })
    })
  }
})

/** The part that the harnesses of bells over a network have in common. */
function harnessOf (proxy: TcpProxy, create: () => Bell, say: (text: string) => Promise<unknown>): BellHarness {
  return {
    create: async () => create(),
    cut: async () => { proxy.reset() },
    silence: async () => { proxy.mode = 'black hole' },
    refuse: async () => {
      proxy.mode = 'refuse'
      proxy.reset()
    },
    heal: async () => {
      proxy.mode = 'pass'
      await new Promise(resolve => { setImmediate(resolve) }) // it listens again
    },
    say: async text => { await say(text) },
    until,
    pass: ms => new Promise(resolve => { setTimeout(resolve, ms) }),
    nowMs: () => performance.now()
  }
}

/** A database with a proxy in front of it, and a client past that. */
async function database (t: Test) {
  const { url, server } = await testDatabase(t)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const proxy = await startTcpProxy(server.port)
  t.teardown(async () => {
    await proxy.stop()
    await client.end()
  })
  const sql = (text: string, values?: unknown[]) => client.query(text, values)
  return { url, through: proxy.through(url), proxy, sql }
}

/** A bell that was started, and all it said. */
interface Ear { readonly bell: Bell, readonly heard: string[], readonly news: BusNews[] }

/** Starts a bell that ends with the test. */
async function started (t: Test, bell: Bell): Promise<Ear> {
  const heard: string[] = []
  const news: BusNews[] = []
  t.teardown(() => bell.close())
  await bell.start({ heard: message => { heard.push(message) }, report: one => { news.push(one) } })
  return { bell, heard, news }
}

t.test('the bell over PostgreSQL', async t => {
  for (const { title, run } of bellConformance) {
    t.test(title, async t => {
      const { through, proxy, sql } = await database(t)
      const say = (text: string) => sql("SELECT pg_notify('orientor_bell', $1)", [text])
      await run(harnessOf(proxy, () => postgresBell({ listenUrl: through, ...times }), say))
    })
  }

  t.test('comes back from every way to lose a connection, and no error escapes', async t => {
    const { through, proxy, sql } = await database(t)
    const told: ReadonlyArray<readonly [string, () => unknown]> = [
      ['terminated', () => sql(`SELECT pg_terminate_backend(pid) ${sessionsOf('victim')}`)],
      ['reset', () => { proxy.reset() }]
    ]
    const silent: ReadonlyArray<readonly [string, () => unknown]> = [
      ['half-open', () => { proxy.silence() }],
      ['half-open one way', () => { proxy.silence('to client') }],
      ['half-open the other way', () => { proxy.silence('to server') }]
    ]
    for (const [options, faults] of [[trusting, told], [times, silent]] as const) {
      const listenUrl = `${through}?application_name=victim`
      const { bell, heard, news } = await started(t, postgresBell({ listenUrl, ...options }))
      for (const [name, harm] of faults) {
        const before = news.length
        await harm()
        await until(`it is lost and back after ${name}`, () => news.length === before + 2 && bell.status().connected)
        heard.length = 0
        await sql("NOTIFY orientor_bell, '*'")
        await until('it is heard', () => heard.length === 1)
      }
      await bell.close()
    }
  })

  t.test('leaves no session behind while its rings wait for a transaction that hangs at its commit', async t => {
    // Such a transaction holds the lock of all that notify.
    const server = await testServer(t, { synchronous_standby_names: 'absent' })
    const client = new pg.Client({ connectionString: server.url(), options: '-c synchronous_commit=local' })
    const hung = new pg.Client({ connectionString: server.url(), options: '-c synchronous_commit=local' })
    for (const one of [client, hung]) await one.connect()
    t.teardown(() => Promise.all([client.end(), hung.end()]))
    const quick = { checkIntervalMs: 200, timeoutMs: 300 }
    const { bell, heard } = await started(t, postgresBell({ listenUrl: server.url(), ...quick }))
    await bell.ring('*')
    await until('a ring needs no standby', () => heard.length === 1)
    const commit = hung.query('SET synchronous_commit = on; CREATE TABLE written (); NOTIFY elsewhere')
    const hanging = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    await until('it hangs', async () => (await client.query(`SELECT ${hanging}`)).rowCount === 1)
    await t.rejects(bell.ring('*'), { code: 'ORI_CACHE_BELL_UNAVAILABLE', cause: { code: '55P03' } })
    t.ok(bell.status().connected, 'one that waits does not cost the connection')
    let mostSessions = 0
    const untilMs = performance.now() + 3000
    while (performance.now() < untilMs) {
      for (let n = 0; n < 5; n++) bell.ring('*').catch(() => {})
      const { rowCount } = await client.query(`SELECT ${sessionsOf('orientor-bell')}`)
      mostSessions = Math.max(mostSessions, rowCount!)
      await new Promise(resolve => { setTimeout(resolve, 50) })
    }
    t.ok(mostSessions <= 4, `${mostSessions} sessions`)
    await client.query(`SELECT pg_cancel_backend(pid) ${hanging}`)
    await commit
    heard.length = 0
    await until('rings are heard again', async () => await bell.ring('*').then(() => heard.length > 0, () => false))
  })

  t.test('never has a transaction open, and ends its session when it closes', async t => {
    const { url, sql } = await database(t)
    const { bell } = await started(t, postgresBell({ listenUrl: url }))
    await bell.ring('?')
    const { rows } = await sql(`SELECT state, backend_xmin ${sessionsOf('orientor-bell')}`)
    t.match(rows, [{ state: 'idle', backend_xmin: null }])
    await bell.close()
    await until('the server knows', async () => (await sql(`SELECT ${sessionsOf('orientor-bell')}`)).rowCount === 0)
  })

  t.test('hears its own channel only', async t => {
    const { url } = await database(t)
    const one = await started(t, postgresBell({ listenUrl: url, channel: 'One' }))
    const other = await started(t, postgresBell({ listenUrl: url, channel: 'other' }))
    await one.bell.ring('*')
    await other.bell.ring('?')
    await until('both are heard', () => one.heard.length > 0 && other.heard.length > 0)
    t.same([one.heard, other.heard], [['*'], ['?']])
  })

  const pooler = { skip: withoutPgBouncer }
  t.test('says once what to do where a pooler is in the way, and leaves no setting behind there', pooler, async t => {
    const { url } = await database(t)
    const pooled = await startPgBouncer(t, url, { pool_mode: 'transaction', default_pool_size: '1' })
    const proxy = await startTcpProxy(Number(new URL(pooled).port))
    t.teardown(() => proxy.stop())
    const { bell, news } = await started(t, postgresBell({ listenUrl: proxy.through(pooled) }))
    t.match(bell.status(), { connected: true, reason: /pooler/ })
    const said = /^session bell \(postgres\): A connection pooler .* Give a direct connection as listenUrl/
    t.match(news, [{ level: 'info' }, { level: 'warn', message: said }])
    const next = new pg.Client({ connectionString: pooled })
    await next.connect()
    t.equal((await next.query('SHOW lock_timeout')).rows[0].lock_timeout, '0', 'of the one session that the pooler has')
    await next.end()
    proxy.reset()
    await until('it is lost and back', () => news.length === 4)
    t.same(news.slice(2).map(({ level }) => level), ['warn', 'info'])
  })

  t.test('says why a connection is refused, and nothing of the password', async t => {
    const { url, sql } = await database(t)
    await sql("CREATE ROLE ringer LOGIN PASSWORD 'right'")
    t.teardown(() => sql('DROP ROLE ringer'))
    const wrong = new URL(url)
    wrong.username = 'ringer'
    wrong.password = 'hunter2'
    const noDatabase = new URL(url)
    noDatabase.pathname = '/nowhere'
    const cases: ReadonlyArray<readonly [string, RegExp]> = [
      [wrong.href, /^PostgreSQL refuses the connection: the password of the role is not accepted \(28P01\)\. Give/],
      [noDatabase.href, /^PostgreSQL refuses the connection: the database does not exist \(3D000\)\. Create/],
      ['postgres://ringer:hunter2@127.0.0.1:1/x', /^The connection could not be made \(ECONNREFUSED\)$/]
    ]
    for (const [listenUrl, reason] of cases) {
      const { bell, news } = await started(t, postgresBell({ listenUrl }))
      t.match(bell.status(), { connected: false, reason })
      t.notMatch(JSON.stringify([bell.status(), news]), /hunter2/)
      await bell.close()
    }
  })

  t.test('refuses options that cannot hold, and says what to write', async t => {
    const code = 'ORI_CONTRACT_INVALID_OPTION'
    t.throws(() => postgresBell({}), { code, message: /postgresBell: give either "listenUrl" or "connection"/ })
    const wrong: ReadonlyArray<readonly [PostgresBellOptions, RegExp]> = [
      [{ listenUrl: 'postgres://u:hunter2@h/d', connection: {} }, /give either/],
      [{ listenUrl: 'postgres://u:hunter2@h1,h2/d' }, /"listenUrl" names several hosts/],
      [{ connection: { connectionString: 'mysql://u:hunter2@h/d' } }, /"connection" does not begin with postgres:/],
      [{ listenUrl: 'postgres://x', checkIntervalMs: 49 }, /"checkIntervalMs" must be .* from 50/],
      [{ listenUrl: 'postgres://x', url: 'x' } as object, /"url" is not known/]
    ]
    for (const [options, rule] of wrong) {
      t.throws(() => postgresBell(options), { code, message: new RegExp(`^(?!.*hunter2).*${rule.source}`) })
    }
    for (const channel of ['', '1a', 'a b', 'ä', 'x'.repeat(64), 7]) {
      const options = { listenUrl: 'postgres://x', channel: channel as string }
      t.throws(() => postgresBell(options), { code, message: /option "channel" must be at most 63 letters/ })
    }
  })
})

t.test('the bell over Redis', { skip: withoutRedis }, async t => {
  const port = await startRedis(t)
  /** A proxy in front of Redis, and a raw client past it. */
  const bench = async (t: Test, toPort: number = port) => {
    const proxy = await startTcpProxy(toPort)
    t.teardown(() => proxy.stop())
    const client = connect(toPort, '127.0.0.1')
    t.teardown(() => { client.destroy() })
    const send = async (...words: string[]): Promise<string> => await new Promise(resolve => {
      client.once('data', data => { resolve(data.toString()) })
      client.write(`*${words.length}\r\n${words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`)
    })
    return { proxy, send, url: `redis://127.0.0.1:${proxy.port}` }
  }

  for (const { title, run } of bellConformance) {
    t.test(title, async t => {
      const { proxy, send, url } = await bench(t)
      const channel = `of_${proxy.port}`
      await run(harnessOf(proxy, () => redisBell({ url, channel, ...times }), text => send('PUBLISH', channel, text)))
    })
  }

  t.test('comes back when Redis ends one of its two connections, and when they are half-open', async t => {
    const { proxy, send, url } = await bench(t)
    const told: ReadonlyArray<readonly [string, () => unknown]> = [
      ['the subscriber killed', () => send('CLIENT', 'KILL', 'TYPE', 'pubsub')],
      ['the publisher killed', () => send('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')],
      ['reset', () => { proxy.reset() }]
    ]
    const silent: ReadonlyArray<readonly [string, () => unknown]> = [
      ['half-open', () => { proxy.silence() }],
      ['half-open one way', () => { proxy.silence('to client') }]
    ]
    for (const [options, faults] of [[trusting, told], [times, silent]] as const) {
      const { bell, heard, news } = await started(t, redisBell({ url, ...options }))
      for (const [name, harm] of faults) {
        const before = news.length
        await harm()
        await until(`it is lost and back after ${name}`, () => news.length === before + 2 && bell.status().connected)
        heard.length = 0
        await bell.ring('*')
        await until('it is heard', () => heard.length === 1)
        // What is half-open stays so at the other side.
        if (options === trusting) await until('nothing is left of those before', () => proxy.counts.open === 2)
      }
      await bell.close()
    }
  })

  t.test('leaves no connection behind when it is closed while it connects', async t => {
    const { proxy, url } = await bench(t)
    proxy.mode = 'stall'
    const bell = redisBell({ url, ...times })
    const start = bell.start({ heard: () => {}, report: () => {} })
    await until('it has dialled', () => proxy.counts.open === 2)
    await bell.close()
    await start
    proxy.mode = 'pass'
    await until('both are gone', () => proxy.counts.open === 0)

    // Closed while TCP connects, which is when the time for that begins to be taken.
    const setTimer: typeof systemClock.setTimer = (...timer) => {
      queueMicrotask(() => { early.close() })
      return systemClock.setTimer(...timer)
    }
    const early = redisBell({ url, ...times, clock: { ...systemClock, setTimer } })
    const before = proxy.counts.accepted
    await early.start({ heard: () => {}, report: () => {} })
    await until('they got through', () => proxy.counts.accepted === before + 2)
    await until('they are gone', () => proxy.counts.open === 0)
  })

  t.test('goes by TLS, with the authority that it is given', async t => {
    const authority = makeCertificate({ commonName: 'authority of the test' })
    const leaf = makeCertificate({ commonName: 'redis', hosts: ['127.0.0.1'], authority })
    const folder = mkdtempSync(join(tmpdir(), 'orientor-bell-'))
    t.teardown(() => { rmSync(folder, { recursive: true }) })
    const file = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text)
      return join(folder, name)
    }
    const tlsPort = String(await freePort())
    await startRedis(t, {
      'tls-port': tlsPort,
      'tls-cert-file': file('cert', leaf.certificate),
      'tls-key-file': file('key', leaf.key),
      'tls-ca-cert-file': file('ca', authority.certificate),
      'tls-auth-clients': 'no'
    })
    const url = `rediss://127.0.0.1:${tlsPort}`
    const { bell, heard } = await started(t, redisBell({ connection: { url, socket: { ca: authority.certificate } } }))
    await bell.ring('*')
    await until('it is heard', () => heard.length === 1)
    const stranger = await started(t, redisBell({ url }))
    const reason = /^The connection failed \((?:UNABLE_TO|SELF_SIGNED)_\w+\)$/
    t.match(stranger.bell.status(), { connected: false, reason })
  })

  t.test('is not hurt by a message that is too long for a ring', async t => {
    const { send, url } = await bench(t)
    const { bell, heard } = await started(t, redisBell({ url, channel: 'long' }))
    t.equal(await send('PUBLISH', 'long', 'x'.repeat(2_000_000)), ':1\r\n')
    await bell.ring('*')
    await until('it is heard', () => heard.length === 1)
    t.same(heard, ['*'])
  })

  t.test('says why it is refused, and nothing of the password', async t => {
    const guarded = await startRedis(t, { requirepass: 'right' })
    const { send } = await bench(t, guarded)
    await send('AUTH', 'right')
    await send('ACL', 'SETUSER', 'deaf', 'on', '>right', '+ping')
    const unusable = /^The npm package "redis" refuses what is given as "connection"$/
    const cases: ReadonlyArray<readonly [Partial<RedisBellOptions>, RegExp]> = [
      [{ url: `redis://:hunter2@127.0.0.1:${guarded}` }, /^Redis refuses: user or password .* \(WRONGPASS\)\. Give/],
      [{ url: `redis://127.0.0.1:${guarded}` }, /^Redis refuses: a password is wanted \(NOAUTH\)\. Write/],
      [{ url: `redis://deaf:right@127.0.0.1:${guarded}` }, /^Redis refuses: .* \(NOPERM\)\. Let it: ACL SETUSER/],
      [{ url: `redis://:right@127.0.0.1:${guarded}/99` }, /^Redis refuses: it answers ERR$/],
      [{ url: 'redis://u:hunter2@127.0.0.1:1' }, /^The connection failed \(ECONNREFUSED\)$/],
      [{ connection: { url: 'http://u:hunter2@127.0.0.1:1' } }, unusable],
      [{ connection: { url: 'redis://u:hunter2@', socket: { tls: true } } }, unusable]
    ]
    for (const [options, reason] of cases) {
      const { bell, news } = await started(t, redisBell(options))
      t.match(bell.status(), { connected: false, reason })
      t.equal(news.length, 1)
      t.notMatch(JSON.stringify([bell.status(), news]), /hunter2|right@/)
      await t.rejects(bell.ring('?'), { code: 'ORI_CACHE_BELL_UNAVAILABLE', message: /^(?!.*hunter2)/ })
      await bell.close()
    }
    // As docs/bell.md has it.
    const rights = ['resetchannels', '&orientor_bell', '-@all', '+ping', '+subscribe', '+publish']
    await send('ACL', 'SETUSER', 'service', 'on', '>right', ...rights)
    const serviceUrl = `redis://service:right@127.0.0.1:${guarded}`
    const narrow = await started(t, redisBell({ url: serviceUrl, checkIntervalMs: 50 }))
    await new Promise(resolve => { setTimeout(resolve, 300) })
    await narrow.bell.ring('*')
    await until('it is heard', () => narrow.heard.length === 1)
    t.equal(narrow.news.length, 1)
    const connection = { url: `redis://127.0.0.1:${guarded}`, password: 'right' }
    const right = await started(t, redisBell({ connection }))
    t.ok(right.bell.status().connected)
  })

  t.test('refuses options that cannot hold, and says what to write', async t => {
    const code = 'ORI_CONTRACT_INVALID_OPTION'
    t.throws(() => redisBell({}), { code, message: /redisBell: give either "url" or "connection"/ })
    t.throws(() => redisBell({ url: 'redis://h', connection: {} }), { code, message: /either "url" or "connection"/ })
    const wrong = [
      '', 'h:6379', 'http://:hunter2@h', 'redis://', 'redis://:hunter2@h/name', 'redis://:hunter2%@h',
      'redis://:hunter2#@h', 'redis://h:hunter2'
    ]
    const said = /"url" must be redis:\/\/user:password@host:port or .*; received a string of \d+ char(?!.*hunter2)/
    for (const url of wrong) {
      t.throws(() => redisBell({ url }), { code, message: said }, url)
    }
    t.throws(() => redisBell({ url: 'redis://h', channel: 'a:b' }), { code, message: /option "channel"/ })
  })
})
