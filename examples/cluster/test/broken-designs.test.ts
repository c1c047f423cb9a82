import t from 'tap'
import { violationsOf } from '../src/checker/index.js'
import { seeded } from './fixtures/simulation/seeded.js'
import { limits, polled } from './fixtures/simulation/simulated-instance.js'
import { simulate, type Fault } from './fixtures/simulation/simulate.js'

const faults: readonly Fault[] = ['none', 'half-open', 'crash']
const seeds = Array.from({ length: 10 }, (_, index) => index + 1)

t.test('The polled design is never flagged, and converges within the bound after every fault', async t => {
  for (const fault of faults) {
    for (const seed of seeds) {
      const result = simulate(polled, fault, seeded(seed))
      t.equal(violationsOf(result), 0, `${fault}, seed ${seed}: ${result.findings[0] ?? 'nothing'}`)
      t.ok(result.convergedAfterMs <= limits.maxStalenessMs + 1000, `${fault}, seed ${seed}: converged after ${result.convergedAfterMs} ms`)
      t.ok(result.reads > 10_000 && result.commits > 200)
    }
  }
})

const broken = [
  { name: 'Expiry only', design: { ...polled, polls: false, proofs: false }, fault: 'none' },
  { name: 'Polls without floors', design: { ...polled, floors: false }, fault: 'none' },
  { name: 'Polls without what was open at the last one (no xip)', design: { ...polled, xip: false }, fault: 'none' },
  { name: 'Polls above xmax instead of from xmax on', design: { ...polled, fromXmax: false }, fault: 'none' },
  { name: 'Polls whose answers prove nothing', design: { ...polled, proofs: false }, fault: 'half-open' },
  { name: 'Polls without a mark of the server', design: { ...polled, marks: false }, fault: 'crash' }
] as const

for (const { name, design, fault } of broken) {
  t.test(`${name} is flagged in every run (fault: ${fault})`, async t => {
    for (const seed of seeds) {
      const { violations } = simulate(design, fault, seeded(seed))
      t.ok(violations['unmarked too old'] > 0, `seed ${seed}: ${violations['unmarked too old']} answers too old`)
    }
  })
}
