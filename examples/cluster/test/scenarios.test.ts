import { postgresFaults, testDatabase } from '@orientor/test-kit'
import t from 'tap'
import { startCluster, strictProfile } from '../src/harness/index.js'
import { scenarios } from '../src/scenarios/scenarios.js'
import { runTrial } from '../src/scenarios/trial.js'
import { summaryOf, verdictOn } from '../src/scenarios/verdict.js'

// The quick share; all of them, and longer, run under test:faults.
const { calm, halfOpenListen, terminateAll, stoppedInstance, stalledLoop } = scenarios
const effort = { readsPerSecond: 150, calmMs: 500, rounds: 1 }

t.test('With a bus the bound of two seconds holds', async t => {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const cluster = await startCluster({ databaseUrl: database.url, profile: strictProfile })
  t.teardown(() => cluster.stop())
  for (const scenario of [calm, halfOpenListen, terminateAll, stoppedInstance, stalledLoop]) {
    await t.test(scenario.name, async t => {
      const result = await runTrial(scenario, cluster, faults, strictProfile, effort)
      t.comment(summaryOf(result))
      const broken = verdictOn(result, scenario, strictProfile)
      t.strictSame(broken, [])
      if (broken.length > 0) for (const { process } of cluster.members) t.comment(process.output)
    })
  }
})
