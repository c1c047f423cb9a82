import pg from 'pg'
import t from 'tap'
import { startTcpProxy, testDatabase } from '../src/index.js'

t.test('a proxy passes, delays, goes silent, resets and refuses, and counts', async t => {
  const { url } = await testDatabase(t)
  const proxy = await startTcpProxy(Number(new URL(url).port))
  t.teardown(() => proxy.stop())
  const through = new URL(url)
  through.port = String(proxy.port)
  const dial = async (): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString: through.href, query_timeout: 200, connectionTimeoutMillis: 1000 })
    client.on('error', () => {})
    await client.connect()
    return client
  }
  const client = await dial()
  t.same((await client.query('SELECT 1 AS one')).rows, [{ one: 1 }])
  proxy.delayMs = 40
  const before = Date.now()
  await client.query('SELECT 1')
  t.ok(Date.now() - before >= 75)
  proxy.delayMs = 0
  proxy.silence()
  await t.rejects(client.query('SELECT 1'), { message: 'Query read timeout' })
  t.ok(proxy.counts.swallowedBytes > 0)
  const second = await dial()
  t.ok(await second.query('SELECT 1'), 'later connections pass')
  proxy.mode = 'black hole'
  await t.rejects(second.query('SELECT 1'), { message: 'Query read timeout' })
  proxy.mode = 'refuse'
  t.equal(proxy.mode, 'refuse')
  await t.rejects(dial())
  proxy.mode = 'pass'
  const third = await dial()
  const cut = t.rejects(third.query('SELECT pg_sleep(1)'))
  proxy.reset()
  await cut
  t.match(proxy.counts, { accepted: 3, refused: 1 })
})
