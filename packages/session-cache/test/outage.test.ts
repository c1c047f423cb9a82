import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { postgresFaults, testDatabase } from '@orientor/test-kit'
import { freshAgain, knownUsers, load, startService } from './fixtures/outage.js'

t.setTimeout(120_000)

// A minute of it, of three kinds, with times: faults/outage.faults.ts.
t.test('with the database killed under load no known user fails, strangers are told, and it heals by itself', async t => {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const service = await startService(database.url, { expireAfterMs: 300 })
  t.teardown(() => service.app.close())
  await service.source.fill(knownUsers)
  for (let number = 0; number < knownUsers; number++) await service.ask(`user-${number}`)

  const requests = load(service)
  const fault = await faults.killCluster()
  await pause(2000)
  const answers = await requests.stop()
  t.ok(answers.some(({ circuitOpen }) => circuitOpen), 'the gate opened')
  const known = answers.filter(answer => answer.known)
  t.ok(known.length > 50)
  t.same(known.filter(({ status }) => status !== 200), [])
  t.ok(known.some(({ stale }) => stale))
  const strangers = answers.filter(answer => !answer.known && answer.circuitOpen)
  t.ok(strangers.length > 0)
  t.ok(strangers.every(({ status }) => status === 503))

  await fault.heal()
  await freshAgain(service)
  t.match(await service.ask('stranger-again'), { status: 401 }, 'the database says that nobody is called that')
  t.match(service.app.sessionCache.stats(), { circuitOpen: 0 })
})
