import t from 'tap'
import { violationsOf } from '../src/checker/index.js'
import { seeded } from './simulation/seeded.js'
import { leased, limits } from './simulation/simulated-instance.js'
import { simulate, type Fault } from './simulation/simulate.js'

const faults: readonly Fault[] = ['none', 'half-open', 'drop']
const seeds = Array.from({ length: 10 }, (_, index) => index + 1)

t.test('The leased design is never flagged, and converges within the bound after every fault', async t => {
  for (const fault of faults) {
    for (const seed of seeds) {
      const result = simulate(leased, fault, seeded(seed))
      t.equal(violationsOf(result), 0, `${fault}, seed ${seed}: ${result.findings[0] ?? 'nothing'}`)
      t.ok(result.convergedAfterMs <= limits.maxStalenessMs + 1000, `${fault}, seed ${seed}: converged after ${result.convergedAfterMs} ms`)
      t.ok(result.reads > 10_000 && result.commits > 200)
    }
  }
})

const broken = [
  { name: 'Expiry only', design: { ...leased, listens: false, heartbeat: false, epochs: false }, fault: 'none' },
  { name: 'LISTEN without floors', design: { ...leased, floors: false, heartbeat: false }, fault: 'none' },
  { name: 'Leased trust without floors', design: { ...leased, floors: false }, fault: 'none' },
  { name: 'LISTEN without heartbeat', design: { ...leased, heartbeat: false }, fault: 'half-open' },
  { name: 'LISTEN without an epoch on reconnect', design: { ...leased, heartbeat: false, epochs: false }, fault: 'drop' },
  { name: 'Leased trust without an epoch on reconnect', design: { ...leased, epochs: false }, fault: 'drop' }
] as const

for (const { name, design, fault } of broken) {
  t.test(`${name} is flagged in every run (fault: ${fault})`, async t => {
    for (const seed of seeds) {
      const { violations } = simulate(design, fault, seeded(seed))
      t.ok(violations['unmarked too old'] > 0, `seed ${seed}: ${violations['unmarked too old']} answers too old`)
    }
  })
}
