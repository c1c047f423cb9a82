import { postgresFaults, testDatabase } from '@orientor/test-kit'
import t from 'tap'
import { startService } from '../test/fixtures/service.js'

const lastsMs = 20_000

t.test(`every session ended each 500 ms for ${lastsMs / 1000} s, while every request loads its user and takes none from memory`, { timeout: lastsMs + 60_000 }, async t => {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const service = await startService(t, { source: 'smart-sync', url: database.url, expireAfterMs: 1000 })
  const users = Array.from({ length: 50 }, (_, number) => `user-${number}`)
  for (const user of users) await service.ask(user)

  const statuses = new Map<number, number>()
  const ended = faults.terminateEvery(500)
  const untilMs = performance.now() + lastsMs
  let strangers = 0
  await Promise.all(Array.from({ length: 8 }, async (_, worker) => {
    for (let turn = worker; performance.now() < untilMs; turn++) {
      // One in twenty is written first.
      const subject = turn % 20 === 0 ? `stranger-${strangers++}` : users[turn % users.length]!
      const { status } = await service.ask(subject, true)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  }))
  await ended.heal()
  const requests = [...statuses.values()].reduce((sum, count) => sum + count, 0)
  const pool = service.app.poolTuning.pool.stats()
  t.comment(JSON.stringify({
    injected: `${await ended.struck()} sessions ended, each 500 ms for ${lastsMs / 1000} s`,
    seen: `${requests} requests, ${strangers} of strangers; ${pool.retries} statements sent again, ${pool.lost} connections lost`,
    reached: `${requests - (statuses.get(200) ?? 0)} not answered 200: ${JSON.stringify(Object.fromEntries(statuses))}`
  }))
  t.strictSame([...statuses.keys()], [200])
  t.ok(pool.retries > 0)
})
