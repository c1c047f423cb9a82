import { strictProfile } from '../src/harness/index.js'
import { setScene } from '../src/scenarios/set-scene.js'
import { runTrial } from '../src/scenarios/trial.js'
import { summaryOf } from '../src/scenarios/verdict.js'
import { brokenDesigns } from '../test/fixtures/sql/broken-designs.js'
import t from 'tap'

const { CLUSTER_SCENARIO: wanted } = process.env

for (const { name, scenario } of Object.values(brokenDesigns)) {
  if (wanted !== undefined && !name.includes(wanted)) continue
  t.test(`An outbox ${name} is flagged`, { timeout: 120_000 }, async t => {
    const scene = await setScene(t, scenario, strictProfile)
    const result = await runTrial(scenario, scene, strictProfile, { readsPerSecond: 150, calmMs: 1000, rounds: 1 })
    t.comment(summaryOf(result))
    const tooOld = result.report.violations['unmarked too old']
    t.ok(tooOld > 0, `${tooOld} answers too old`)
  })
}
