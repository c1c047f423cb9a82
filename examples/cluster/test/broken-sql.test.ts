import t from 'tap'
import { strictProfile } from '../src/harness/index.js'
import { setScene } from '../src/scenarios/set-scene.js'
import { runTrial } from '../src/scenarios/trial.js'
import { summaryOf } from '../src/scenarios/verdict.js'
import { brokenDesigns } from './fixtures/sql/broken-designs.js'

// The quick share; all of them run under test:faults.
const { noXip, aboveXmax, digestIgnored, swallowedInsert } = brokenDesigns

t.test('An outbox that is broken on a real server is flagged', async t => {
  const scene = await setScene(t, {}, strictProfile)
  for (const { name, scenario } of [noXip, aboveXmax, swallowedInsert, digestIgnored]) {
    await t.test(name, async t => {
      const result = await runTrial(scenario, scene, strictProfile, { readsPerSecond: 100, calmMs: 300, rounds: 1 })
      t.comment(summaryOf(result))
      const tooOld = result.report.violations['unmarked too old']
      t.ok(tooOld > 0, `${tooOld} answers too old`)
    })
  }
})
