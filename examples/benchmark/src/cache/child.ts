import { measurements } from './measurements.js'

// The process that apart() starts: one measurement, and its answer to the parent.
const [name, parameters] = JSON.parse(process.argv[2]!) as [keyof typeof measurements, unknown[]]
const answer = await (measurements[name] as (...parameters: unknown[]) => unknown)(...parameters)
process.send!(answer)
