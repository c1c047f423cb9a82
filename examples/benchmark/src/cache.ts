import { parseArgs } from 'node:util'
import { apart } from './cache/apart.js'
import type { Bytes } from './cache/bytes.js'
import { contenderNames, type ContenderName } from './cache/contenders.js'
import { goalsOf, report, type CacheFigures } from './cache/report.js'
import { machine } from './measure/machine.js'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    small: { type: 'string', default: '10000' },
    large: { type: 'string', default: '1000000' },
    runs: { type: 'string', default: '9' }
  }
})
const [small, large, runs] = (['small', 'large', 'runs'] as const).map(name => {
  const value = Number(values[name])
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} must be a whole number from 1; received ${JSON.stringify(values[name])}`)
  return value
}) as [number, number, number]
// The pauses of the others at the large size are long enough to be seen in few runs.
const runsOfOthers = Math.min(runs, 3)
const users = Math.min(large, 100_000)

async function byStore<T> (measure: (name: ContenderName) => Promise<T>): Promise<Record<ContenderName, T>> {
  const measured = {} as Record<ContenderName, T>
  for (const name of contenderNames) measured[name] = await measure(name)
  return measured
}

async function bytes (): Promise<Bytes> {
  const [row, session, token, together] = [await apart('bytesPer', 'row', users), await apart('bytesPer', 'session', users), await apart('bytesPer', 'token', users), await apart('bytesPer', 'together', users)]
  return { row, session, token, together }
}

console.log(`${machine()}\n${small.toLocaleString('en')} and ${large.toLocaleString('en')} entries; a set's time is the least of ${runs} runs at each position; every measurement in a process of its own\n`)
const figures: CacheFigures = {
  small,
  large,
  hit: { product: await apart('productHit', small, large), stores: await byStore(name => apart('storeHit', name, small, large)) },
  set: {
    small: { product: await apart('worstProductSet', small, runs), stores: await byStore(name => apart('worstSet', name, small, runs)) },
    large: { product: await apart('worstProductSet', large, runs), stores: await byStore(name => apart('worstSet', name, large, name === 'session-cache' ? runs : runsOfOthers)) }
  },
  hitRate: await apart('hitRates', small),
  bytes: await bytes(),
  bytesPerEntry: await byStore(name => apart('bytesPerEntry', name, users))
}
console.log(report(figures))
if (values.json) console.log(JSON.stringify({ ...figures, goals: goalsOf(figures) }))
