import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sessionKey, sessionKeyHash, type UserChange, type WatchedTable } from '@orientor/session-contract/core'
import { postgresFaults, startPostgres, until, type PostgresFaults, type PostgresServer } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { BusNews, InvalidationBus } from '../src/core.js'
import { postgresBus } from '../src/postgres.js'

const issuer = 'https://issuer.test'
const people: WatchedTable = { table: 'people', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'] }
const times = { heartbeatIntervalMs: 200, heartbeatTimeoutMs: 500, maxStalenessMs: 2000 }

interface Bench { readonly url: string, readonly server: PostgresServer, readonly faults: PostgresFaults, readonly bus: InvalidationBus, readonly news: BusNews[], readonly changes: UserChange[] }

/** A server of its own, and a bus on it that is trusted. */
async function bench (t: Test, parameters: Record<string, string> = {}): Promise<Bench> {
  const server = await startPostgres({ parameters })
  t.teardown(() => server.stop())
  const url = await server.createDatabase()
  const faults = postgresFaults(t, { server, url })
  await faults.sql('CREATE TABLE people (sub text UNIQUE, rev bigint NOT NULL DEFAULT 1, email text)')
  const bus = postgresBus({ listenUrl: url, ...times })
  const news: BusNews[] = []
  const changes: UserChange[] = []
  bus.subscribe(change => { changes.push(change) })
  await bus.start({ watches: [people], report: one => { news.push(one) } })
  t.teardown(() => bus.close())
  t.ok(bus.status().trusted)
  return { url, server, faults, bus, news, changes }
}

/** What happens after a fault: a new epoch, trust, and changes that arrive. */
async function recovered ({ faults, bus, changes }: Bench, epoch: number, name: string): Promise<number> {
  const sinceMs = performance.now()
  await until(`trust is back after ${name}`, () => bus.trust.epoch > epoch && bus.status().trusted, 30_000)
  const tookMs = performance.now() - sinceMs
  await faults.sql('INSERT INTO people (sub, rev) VALUES ($1, 1)', [name])
  const keyHash = sessionKeyHash(sessionKey(issuer, name))
  await until(`a change is heard after ${name}`, () => changes.some(change => change.kind === 'user' && change.keyHash === keyHash))
  return tookMs
}

t.test('a listener that is frozen, a cluster that is frozen, killed or restarted, and sessions that are ended all the time end trust for as long as that lasts', async t => {
  const world = await bench(t)
  const { faults, bus } = world
  const untrusted = async (): Promise<void> => { await until('trust is lost', () => !bus.status().trusted) }
  const listener = async (): Promise<number> => (await faults.backends()).find(({ applicationName }) => applicationName.startsWith('orientor-bus/'))!.pid
  const scenarios: Array<[string, () => Promise<{ heal (): Promise<void> }>]> = [
    ['a frozen listener', async () => faults.freeze(await listener())],
    ['a frozen cluster', async () => faults.freeze('cluster')],
    ['a killed cluster', async () => await faults.killCluster()],
    ['sessions ended all the time', async () => {
      const fault = faults.terminateEvery(100)
      await new Promise(resolve => { setTimeout(resolve, 2000) })
      return fault
    }]
  ]
  for (const [name, harm] of scenarios) {
    const { epoch } = bus.trust
    const fault = await harm()
    if (!name.includes('ended')) await untrusted()
    await fault.heal()
    const tookMs = await recovered(world, epoch, name)
    t.comment(JSON.stringify({ fault: name, trustBackMs: Math.round(tookMs) }))
    t.ok(tookMs <= times.heartbeatTimeoutMs + 2000, `${name}: ${tookMs} ms`)
  }
  const { epoch } = bus.trust
  await faults.restart('fast')
  t.comment(JSON.stringify({ fault: 'a fast restart', trustBackMs: Math.round(await recovered(world, epoch, 'a fast restart')) }))
})

t.test('a server that becomes a standby is not trusted, and is when it is promoted', async t => {
  const world = await bench(t)
  const { server, faults, bus, news } = world
  const { epoch, provenAtMs } = bus.trust
  await server.kill('SIGINT')
  writeFileSync(join(server.dataDir, 'standby.signal'), '')
  await server.start()
  await until('it is known to be a standby', () => bus.status().reason === 'The server is a standby, where nothing is announced')
  t.ok(news.some(({ level }) => level === 'warn'))
  t.ok(bus.trust.epoch === epoch && bus.trust.provenAtMs >= provenAtMs)
  await faults.sql('SELECT pg_promote()')
  rmSync(join(server.dataDir, 'standby.signal'), { force: true })
  await recovered(world, epoch, 'a promotion')
})

t.test('a queue of notifications that fills up is told before it is full, once', async t => {
  const { faults, bus, news, url } = await bench(t, { max_notify_queue_pages: '64' })
  // Whoever listens and keeps a transaction open holds the queue back.
  const hog = new pg.Client({ connectionString: url })
  await hog.connect()
  await hog.query('LISTEN elsewhere')
  await hog.query('BEGIN; SELECT 1')
  for (let round = 0; round < 12 && !bus.status().reason.includes('filling up'); round++) {
    await faults.sql("INSERT INTO people (sub) SELECT 'q' || $1 || '-' || i FROM generate_series(1, 900) AS i", [round])
    await new Promise(resolve => { setTimeout(resolve, 250) })
  }
  t.match(bus.status(), { trusted: true, reason: /the queue of notifications is filling up \(\d+ %\)$/ })
  t.equal(news.filter(({ message }) => message.includes('queue of notifications')).length, 1)
  await hog.end()
})
