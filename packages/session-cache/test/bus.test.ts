import { sessionKey, sessionKeyHash, type UserChange, type WatchedTable } from '@orientor/session-contract/core'
import { ManualClock, postgresFaults, startPgBouncer, startTcpProxy, testDatabase, until, withoutPgBouncer, type TcpProxy } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { announcementOf, changeOf } from '../src/coherence/announcement.js'
import type { BusNews, InvalidationBus } from '../src/core.js'
import { postgresBus, triggerSql, type PostgresBusOptions } from '../src/postgres.js'
import { busConformance, memoryBus, MemoryHub, type BusHarness } from '../src/testing.js'

const quick = { heartbeatIntervalMs: 200, heartbeatTimeoutMs: 300, maxStalenessMs: 1000 }
const people: WatchedTable = { table: 'people', issuer: { always: 'https://issuer.test' }, subject: 'sub', revision: 'rev', columns: ['email', 'profile'] }
const peopleSql = 'CREATE TABLE people (sub text UNIQUE, rev bigint NOT NULL DEFAULT 1, email text, profile json, seen timestamptz)'

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

interface Bench {
  readonly url: string
  readonly proxy: TcpProxy
  readonly news: BusNews[]
  readonly changes: UserChange[]
  sql (text: string, values?: unknown[]): Promise<pg.QueryResult>
  make (options?: Partial<PostgresBusOptions>): InvalidationBus
  start (options?: Partial<PostgresBusOptions>, watches?: readonly WatchedTable[]): Promise<InvalidationBus>
}

/** A database with a table, a proxy in front of it, and buses through that proxy. */
async function database (t: Test): Promise<Bench> {
  const { url, server } = await testDatabase(t)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query(peopleSql)
  const proxy = await startTcpProxy(server.port)
  const through = new URL(url)
  through.port = String(proxy.port)
  const open: InvalidationBus[] = []
  t.teardown(async () => {
    for (const bus of open) await bus.close()
    await proxy.stop()
    await client.end()
  })
  const news: BusNews[] = []
  const changes: UserChange[] = []
  const make = (options: Partial<PostgresBusOptions> = {}): InvalidationBus => {
    const bus = postgresBus({ listenUrl: through.href, ...quick, ...options })
    open.push(bus)
    return bus
  }
  return {
    url: through.href,
    proxy,
    news,
    changes,
    sql: (text, values) => client.query(text, values),
    make,
    start: async (options, watches = [people]) => {
      const bus = make(options)
      bus.subscribe(change => { changes.push(change) })
      await bus.start({ watches, report: one => { news.push(one) } })
      return bus
    }
  }
}
