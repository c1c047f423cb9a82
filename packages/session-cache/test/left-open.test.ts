import {
  sessionKey, sessionKeyHash, type PoolLike, type UserChange, type WatchedTable
} from '@orientor/session-contract/core'
import { testDatabase, until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { postgresBus } from '../src/postgres.js'

const issuer = 'https://issuer.test'
const people: WatchedTable = {
  table: 'people', issuer: { always: issuer }, subject: 'sub', revision: 'rev', columns: ['email']
}

/** What a statement of an app may leave on a connection of a pool that gives it out as it is. */
const leftovers: Readonly<Record<string, string>> = {
  'a transaction that has an id': 'BEGIN; SELECT pg_current_xact_id()',
  'a transaction that has written': 'BEGIN; CREATE TEMPORARY TABLE left_open (n int); INSERT INTO left_open VALUES (1)',
  'a REPEATABLE READ transaction with a snapshot': 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM people',
  'a SERIALIZABLE transaction that has an id': 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT pg_current_xact_id()',
  'a transaction that has failed': 'BEGIN; SELECT 1 / 0'
}

/** A bus that is trusted and polls over a pool of one connection, which has none to spare. */
async function bench (t: Test) {
  const { url } = await testDatabase(t)
  const pool = new pg.Pool({ connectionString: url, max: 1 })
  pool.on('error', () => {})
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  t.teardown(async () => { await Promise.all([pool.end(), operator.end()]) })
  await operator.query('CREATE TABLE people (sub text UNIQUE, rev bigint NOT NULL DEFAULT 1, email text)')
  const whole: PoolLike = pool
  let borrowed = 0
  const given: PoolLike = {
    query: statement => whole.query(statement),
    connect: () => {
      borrowed++
      return whole.connect()
    }
  }
  const bus = postgresBus({ pool: given, pollIntervalMs: 20, pollTimeoutMs: 1000, maxStalenessMs: 3000 })
  const heard: UserChange[] = []
  bus.subscribe(change => { heard.push(change) })
  await bus.start({ watches: [people], report: () => {} })
  t.teardown(() => bus.close())
  await until('the bus is trusted', () => bus.status().trusted)
  return { bus, pool, operator, heard, borrowed: () => borrowed }
}

for (const [what, sql] of Object.entries(leftovers)) {
  t.test(`${what}, left open on the connection that polls, proves nothing and is closed; polls go on as before`, async t => {
    const { bus, pool, operator, heard, borrowed } = await bench(t)
    await pool.query(sql).catch(() => {})
    await operator.query("INSERT INTO people (sub) VALUES ('ann')")
    const committedAtMs = performance.now()
    const isTrusted = (): boolean => bus.status().trusted && bus.trust.provenAtMs > committedAtMs
    await until('the bus is trusted, by a poll that was sent later', isTrusted, 5000)
    const keyHash = sessionKeyHash(sessionKey(issuer, 'ann'))
    t.ok(heard.some(change => change.kind === 'user' && change.keyHash === keyHash), 'it brought the change')
    const before = borrowed()
    const { provenAtMs } = bus.trust
    await until('it has polled some more', () => bus.trust.provenAtMs > provenAtMs + 100)
    t.equal(borrowed(), before, 'by single statements')
  })
}

t.test('where the role has another isolation by default, a session that is ended in the midst of a poll ends no process', async t => {
  const { url } = await testDatabase(t)
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  const options = '-c default_transaction_isolation=repeatable\\ read'
  const pool = new pg.Pool({ connectionString: url, max: 2, options })
  pool.on('error', () => {})
  t.teardown(async () => { await Promise.all([pool.end(), operator.end()]) })
  await operator.query('CREATE TABLE people (sub text UNIQUE, rev bigint NOT NULL DEFAULT 1, email text)')
  const whole: PoolLike = pool
  const given: PoolLike = { query: statement => whole.query(statement), connect: () => whole.connect() }
  const bus = postgresBus({ pool: given, pollIntervalMs: 20, pollTimeoutMs: 1000, maxStalenessMs: 3000 })
  await bus.start({ watches: [people], report: () => {} })
  t.teardown(() => bus.close())
  await until('the bus is trusted', () => bus.status().trusted)
  let ended = 0
  for (let round = 0; round < 300; round++) {
    const { rowCount } = await operator.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`)
    ended += rowCount!
    await new Promise(resolve => { setTimeout(resolve, Math.random() * 8) })
  }
  t.ok(ended > 50, `${ended} sessions`)
  const endedAtMs = performance.now()
  await until('the bus is trusted again', () => bus.trust.provenAtMs > endedAtMs, 5000)
})
