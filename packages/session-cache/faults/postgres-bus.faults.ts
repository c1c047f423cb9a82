import { chownSync, chmodSync, cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sessionKey, sessionKeyHash, type UserChange, type WatchedTable } from '@orientor/session-contract/core'
import { postgresFaults, serverAccount, startPostgres, startTcpProxy, until, type PostgresFaults, type PostgresServer, type TcpProxy } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { BusNews, InvalidationBus } from '../src/core.js'
import { postgresBus } from '../src/postgres.js'

const issuer = 'https://issuer.test'
const people: WatchedTable = { table: 'people', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email'] }
const times = { pollIntervalMs: 100, pollTimeoutMs: 500, maxStalenessMs: 2000 }

interface Bench { readonly url: string, readonly server: PostgresServer, readonly proxy: TcpProxy, readonly faults: PostgresFaults, readonly bus: InvalidationBus, readonly news: BusNews[], readonly changes: UserChange[] }

/** A server of its own, a proxy in front of it, and a bus through that which is trusted. */
async function bench (t: Test, parameters: Record<string, string> = {}): Promise<Bench> {
  const server = await startPostgres({ parameters })
  t.teardown(() => server.stop())
  const url = await server.createDatabase()
  const faults = postgresFaults(t, { server, url })
  await faults.sql('CREATE TABLE people (sub text UNIQUE, rev bigint NOT NULL DEFAULT 1, email text)')
  const proxy = await startTcpProxy(server.port)
  const pool = new pg.Pool({ connectionString: proxy.through(url), application_name: 'app' })
  pool.on('error', () => {})
  const bus = postgresBus({ pool, ...times })
  const news: BusNews[] = []
  const changes: UserChange[] = []
  bus.subscribe(change => { changes.push(change) })
  t.teardown(async () => {
    await bus.close()
    await pool.end()
    await proxy.stop()
  })
  await bus.start({ watches: [people], report: one => { news.push(one) } })
  t.ok(bus.status().trusted)
  return { url, server, proxy, faults, bus, news, changes }
}

function isHeard (changes: readonly UserChange[], subject: string): boolean {
  const keyHash = sessionKeyHash(sessionKey(issuer, subject))
  return changes.some(change => change.kind === 'user' && change.keyHash === keyHash)
}

/** Waits for what follows a fault: trust, in the same epoch or another, and changes that arrive. Resolves with the time that trust took, in milliseconds. */
async function recovered ({ faults, bus, changes }: Bench, epoch: number, isNew: boolean, name: string): Promise<number> {
  const sinceMs = performance.now()
  await until(`trust is back after ${name}`, () => bus.trust.epoch >= epoch + (isNew ? 1 : 0) && bus.trust.provenAtMs > sinceMs && bus.status().trusted, 30_000)
  const tookMs = performance.now() - sinceMs
  t.equal(bus.trust.epoch > epoch, isNew, `${name}: ${isNew ? 'a new' : 'the same'} epoch`)
  await faults.sql('INSERT INTO people (sub, rev) VALUES ($1, 1)', [name])
  await until(`a change is heard after ${name}`, () => isHeard(changes, name))
  return tookMs
}

t.test('a poll that is frozen, a cluster that is frozen, killed or restarted, and sessions that are ended all the time end trust for as long as that lasts', async t => {
  const world = await bench(t)
  const { faults, bus } = world
  // It may come back at once, by another connection.
  let losses = 0
  bus.onTrust(({ trusted }) => { if (!trusted) losses++ })
  const poller = async (): Promise<number> => (await faults.backends({ applicationName: 'app' })).at(-1)!.pid
  const scenarios: Array<[string, boolean, () => Promise<{ heal (): Promise<void> }>]> = [
    ['a frozen poll', false, async () => faults.freeze(await poller())],
    ['a frozen cluster', false, async () => faults.freeze('cluster')],
    ['sessions ended all the time', false, async () => {
      const fault = faults.terminateEvery(20)
      await new Promise(resolve => { setTimeout(resolve, 2000) })
      return fault
    }],
    ['a killed cluster', true, async () => await faults.killCluster()]
  ]
  for (const [name, isNew, harm] of scenarios) {
    const { epoch } = bus.trust
    const before = losses
    const fault = await harm()
    if (!name.includes('ended')) await until(`trust is lost by ${name}`, () => losses > before)
    await fault.heal()
    const tookMs = await recovered(world, epoch, isNew, name)
    t.comment(JSON.stringify({ fault: name, trustBackMs: Math.round(tookMs) }))
    t.ok(tookMs <= times.pollTimeoutMs + 2000, `${name}: ${tookMs} ms`)
  }
  for (const mode of ['fast', 'immediate'] as const) {
    const { epoch } = bus.trust
    await faults.restart(mode)
    t.comment(JSON.stringify({ fault: `a restart, ${mode}`, trustBackMs: Math.round(await recovered(world, epoch, true, `a restart, ${mode}`)) }))
  }
})

t.test('a crash that loses transactions whose commit was not written begins a new epoch, whatever numbers are given out again', async t => {
  const world = await bench(t)
  const { faults, bus, url } = world
  for (let round = 0; round < 4; round++) {
    const { epoch } = bus.trust
    const writer = new pg.Client({ connectionString: url, application_name: 'writer' })
    writer.on('error', () => {})
    await writer.connect()
    await writer.query('SET synchronous_commit = off')
    for (let n = 0; n < 200; n++) await writer.query('INSERT INTO people (sub) VALUES ($1)', [`lost ${round} ${n}`])
    const before = BigInt((await writer.query('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xmax')).rows[0].xmax as string)
    faults.killBackend((await faults.backends({ applicationName: 'writer' }))[0]!.pid)
    const killedAtMs = performance.now()
    await faults.ready()
    const after = BigInt((await faults.sql<{ xmax: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xmax')).rows[0]!.xmax)
    t.comment(JSON.stringify({ round, wentBackBy: String(before - after) }))
    await recovered(world, epoch, true, `crash ${round}`)
    t.ok(bus.trust.lastProofOf(epoch)!.monotonicMs <= killedAtMs + 50, 'nothing is proven beyond the crash in the old epoch')
    await writer.end().catch(() => {})
  }
})

/** A standby that follows a server: a cold copy of it. */
async function standbyOf (t: Test, server: PostgresServer): Promise<PostgresServer> {
  await server.kill('SIGINT')
  const folder = mkdtempSync('/tmp/orientor-standby-')
  t.teardown(() => { rmSync(folder, { recursive: true, force: true, maxRetries: 5 }) })
  cpSync(server.folder, folder, { recursive: true })
  await server.start()
  const { username, password, port } = new URL(server.url())
  const data = join(folder, 'data')
  writeFileSync(join(data, 'standby.signal'), '')
  writeFileSync(join(data, 'postgresql.auto.conf'), `primary_conninfo = 'host=127.0.0.1 port=${port} user=${username} password=${password}'\n`)
  const account = serverAccount()
  if (account !== null) for (const path of [folder, ...readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(name => join(folder, name))]) chownSync(path, account.uid, account.gid)
  chmodSync(data, 0o700)
  const standby = await startPostgres({ folder })
  t.teardown(() => standby.stop())
  return standby
}

t.test('a standby is not trusted while it follows, and begins a new epoch when it is promoted', async t => {
  const world = await bench(t)
  const { server, proxy, faults, bus, news, changes, url } = world
  const standby = await standbyOf(t, server)
  await until('trust is back after the stop', () => bus.status().trusted)
  const { epoch } = bus.trust
  await faults.sql("INSERT INTO people (sub) VALUES ('before')")
  await until('it is heard', () => isHeard(changes, 'before'))
  const name = new URL(url).pathname.slice(1)
  const there = new pg.Client({ connectionString: standby.url(name) })
  there.on('error', () => {})
  await there.connect()
  t.teardown(() => there.end())
  await until('the standby has followed', async () => (await there.query("SELECT FROM people WHERE sub = 'before'")).rowCount === 1)

  news.length = 0
  proxy.retarget(standby.port)
  proxy.reset()
  await until('it is known to be a standby', () => bus.status().reason === 'The server is a standby, where nothing can be proven')
  t.ok(news.some(({ level }) => level === 'warn'))
  const { provenAtMs } = bus.trust
  await faults.sql("INSERT INTO people (sub) VALUES ('on the primary')")
  await until('the standby has followed', async () => (await there.query("SELECT FROM people WHERE sub = 'on the primary'")).rowCount === 1)
  t.same([bus.trust.epoch, bus.trust.provenAtMs], [epoch, provenAtMs])

  await server.kill('SIGKILL')
  await there.query('SELECT pg_promote()')
  await until('a new epoch', () => bus.trust.epoch > epoch && bus.status().trusted, 30_000)
  t.ok(bus.trust.lastProofOf(epoch)!.monotonicMs <= provenAtMs)
  await there.query("INSERT INTO people (sub) VALUES ('after')")
  await until('a change is heard', () => isHeard(changes, 'after'))
  await server.start()
})
