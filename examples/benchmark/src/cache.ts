import { parseArgs } from 'node:util'
import { apart } from './cache/apart.js'
import type { Bytes } from './cache/bytes.js'
import { contenderNames, type ContenderName } from './cache/contenders.js'
import { goalsOf, report, type CacheFigures } from './cache/report.js'
import type { Sizes } from './cache/sizes.js'
import type { StoreFigures } from './cache/store-figures.js'
import { machine } from './measure/machine.js'
import { wholeNumber } from './measure/whole-number.js'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    small: { type: 'string', default: '10000' },
    large: { type: 'string', default: '1000000' },
    runs: { type: 'string', default: '9' }
  }
})
const [small, large, runs] = (['small', 'large', 'runs'] as const).map(name => wholeNumber(name, values[name])) as [number, number, number]
const sizes: Sizes = { small, large, runs, users: Math.min(large, 100_000) }

console.log(`${machine()}\n${small.toLocaleString('en')} and ${large.toLocaleString('en')} entries; a set's time is the least of ${runs} runs at each position (the others at the large size: ${Math.min(runs, 3)})\n`)
const product = await apart('productFigures', sizes)
const stores = {} as Record<ContenderName, StoreFigures>
for (const name of contenderNames) stores[name] = await apart('storeFigures', name, sizes)
const bytes = {} as Record<keyof Bytes, number>
for (const what of ['row', 'session', 'token', 'together'] as const) bytes[what] = await apart('bytesPer', what, sizes.users)
const figures: CacheFigures = { small, large, product, stores, hitRate: await apart('hitRates', small), bytes }
console.log(report(figures))
if (values.json) console.log(JSON.stringify({ ...figures, goals: goalsOf(figures) }))
