import { postgresFaults, testDatabase } from '@orientor/test-kit'
import t from 'tap'
import { startCluster, strictProfile } from '../src/harness/index.js'
import type { Scenario } from '../src/scenarios/scenario.js'
import { scenarios } from '../src/scenarios/scenarios.js'
import { runTrial } from '../src/scenarios/trial.js'
import { summaryOf, verdictOn } from '../src/scenarios/verdict.js'

// Together more than a million reads.
const effort = { readsPerSecond: 600, calmMs: 3000, rounds: 4 }

for (const scenario of Object.values<Scenario>(scenarios)) {
  t.test(`${scenario.name}: nothing unmarked is older than the bound, nothing goes back, nothing is mixed up`, { timeout: 240_000 }, async t => {
    const database = await testDatabase(t)
    const faults = postgresFaults(t, database)
    const cluster = await startCluster({ databaseUrl: database.url, profile: strictProfile })
    t.teardown(() => cluster.stop())
    const result = await runTrial(scenario, cluster, faults, strictProfile, effort)
    t.comment(summaryOf(result))
    const broken = verdictOn(result, scenario, strictProfile)
    t.strictSame(broken, [])
    if (broken.length > 0) for (const { process } of cluster.members) t.comment(process.output)
  })
}
