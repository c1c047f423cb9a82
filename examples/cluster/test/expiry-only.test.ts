import t from 'tap'
import { strictProfile } from '../src/harness/index.js'
import { scenarios } from '../src/scenarios/scenarios.js'
import { setScene } from '../src/scenarios/set-scene.js'
import { runTrial } from '../src/scenarios/trial.js'
import { summaryOf, verdictOn } from '../src/scenarios/verdict.js'

t.test('Instances without a bus, whose users live until they expire, are flagged', async t => {
  const scene = await setScene(t, { hearing: 'none' }, strictProfile)
  const calm = { ...scenarios.calm, trust: 'never' } as const
  const result = await runTrial(calm, scene, strictProfile, { readsPerSecond: 100, calmMs: 1000, rounds: 1 })
  t.comment(summaryOf(result))
  t.ok(result.report.violations['unmarked too old'] > 0)
  t.strictSame(Object.keys(result.report.failed), [])
  t.match(verdictOn(result, calm, strictProfile)[0], /wrong answers: unmarked too old/)
})
