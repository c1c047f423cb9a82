import { postgresFaults, testDatabase } from '@orientor/test-kit'
import t from 'tap'
import { startCluster, strictProfile } from '../src/harness/index.js'
import { scenarios } from '../src/scenarios/scenarios.js'
import { runTrial } from '../src/scenarios/trial.js'
import { summaryOf, verdictOn } from '../src/scenarios/verdict.js'

t.test('Instances without a bus, whose users live until they expire, are flagged', async t => {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const cluster = await startCluster({ databaseUrl: database.url, listenUrl: null })
  t.teardown(() => cluster.stop())
  const calm = { ...scenarios.calm, trust: 'never' } as const
  const result = await runTrial(calm, cluster, faults, strictProfile, { readsPerSecond: 100, calmMs: 1000, rounds: 1 })
  t.comment(summaryOf(result))
  t.ok(result.report.violations['unmarked too old'] > 0)
  t.strictSame(Object.keys(result.report.failed), [])
  t.match(verdictOn(result, calm, strictProfile)[0], /wrong answers: unmarked too old/)
})
