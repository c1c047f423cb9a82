import t from 'tap'
import { strictProfile } from '../src/harness/index.js'
import { scenarios } from '../src/scenarios/scenarios.js'
import { setScene } from '../src/scenarios/set-scene.js'
import { runTrial } from '../src/scenarios/trial.js'
import { summaryOf, verdictOn } from '../src/scenarios/verdict.js'

// The quick share; all of them, and longer, run under test:faults.
const { calm, halfOpenPoll, terminateAll, stoppedInstance, stalledLoop } = scenarios
const effort = { readsPerSecond: 150, calmMs: 500, rounds: 1 }

t.test('With a bus the bound of two seconds holds', async t => {
  const scene = await setScene(t, { hearing: 'own', server: { max_prepared_transactions: '50' } }, strictProfile)
  for (const scenario of [calm, halfOpenPoll, terminateAll, stoppedInstance, stalledLoop]) {
    await t.test(scenario.name, async t => {
      const result = await runTrial(scenario, scene, strictProfile, effort)
      t.comment(summaryOf(result))
      const broken = verdictOn(result, scenario, strictProfile)
      t.strictSame(broken, [])
      if (broken.length > 0) for (const { process } of scene.cluster.members) t.comment(process.output)
    })
  }
})
