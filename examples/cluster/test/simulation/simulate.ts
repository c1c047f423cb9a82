import { ManualClock } from '@orientor/test-kit'
import { CoherenceChecker, Convergence, type CoherenceReport } from '../../src/checker/index.js'
import { SimulatedDatabase } from './simulated-database.js'
import { limits, SimulatedInstance, type Design } from './simulated-instance.js'

/** What happens to the first of three instances, five seconds after the start. */
export type Fault = 'none' | 'half-open' | 'drop'

export interface Simulated extends CoherenceReport {
  /** From the end of the fault, in milliseconds. */
  readonly convergedAfterMs: number
}

const names = ['a', 'b', 'c'] as const
// One is written all the time; some so seldom that nothing comes to the rescue of what was missed, and then twice in a row, so that the second
// write meets the load that the first one caused. They are written in the middle of the fault, for one.
const seldomMs = 5350
const writtenEveryMs: Readonly<Record<string, number>> = { busy: 150, usual: 900, 'seldom 1': seldomMs, 'seldom 2': seldomMs, 'seldom 3': seldomMs }
const durationMs = 40_000
const faultAtMs = 5000
const faultMs = 700
const jitter = (random: () => number, least: number, most: number) => () => least + random() * (most - least)

/** Runs 40 s of a design under a fault on a simulated clock, and holds it against the bound. */
export function simulate (design: Design, fault: Fault, random: () => number): Simulated {
  const clock = new ManualClock()
  const database = new SimulatedDatabase()
  const delays = { loadMs: jitter(random, 0, 60), messageMs: jitter(random, 1, 40) }
  const instances = new Map(names.map(name => [name, new SimulatedInstance(design, clock, database, delays)]))
  const checker = new CoherenceChecker({ maxStalenessMs: limits.maxStalenessMs, staleIfErrorMs: 0 })
  let convergence: Convergence | null = null
  const every = (periodMs: () => number, act: () => void): void => {
    clock.setTimer(() => { act(); every(periodMs, act) }, periodMs())
  }

  for (const [key, meanMs] of Object.entries(writtenEveryMs)) {
    let version = 0
    const write = (): void => {
      const written = ++version
      const sentAtMs = clock.monotonic()
      checker.begin(key, written)
      clock.setTimer(() => { database.commit(key, written) }, 1)
      clock.setTimer(() => { checker.commit({ key, version: written, sentAtMs, returnedAtMs: clock.monotonic() }) }, 2)
    }
    every(jitter(random, meanMs * 0.95, meanMs * 1.05), () => {
      write()
      if (meanMs === seldomMs) clock.setTimer(write, 30 + 40 * random())
    })
    checker.begin(key, 0)
    checker.commit({ key, version: 0, sentAtMs: clock.monotonic(), returnedAtMs: clock.monotonic() })
  }
  for (const [name, instance] of instances) {
    for (const key of Object.keys(writtenEveryMs)) {
      every(jitter(random, 5, 25), () => {
        const begunAtMs = clock.monotonic()
        instance.read(key, version => {
          const read = { instance: name, key, begunAtMs, endedAtMs: clock.monotonic(), answer: { kind: 'user', key, version, marked: false } } as const
          checker.read(read)
          convergence?.read(read)
        })
      })
    }
  }
  const first = instances.get('a')!
  clock.setTimer(() => {
    if (fault === 'half-open') first.link.state = 'half-open'
    if (fault === 'drop') {
      first.unreachable = true
      first.drop()
    }
  }, faultAtMs)
  clock.setTimer(() => {
    first.unreachable = false
    convergence = new Convergence(clock.monotonic(), checker.newest(), names)
  }, faultAtMs + faultMs)

  clock.advance(durationMs)
  return { ...checker.report(), convergedAfterMs: convergence!.tookMs }
}
