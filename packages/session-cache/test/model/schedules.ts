import fc from 'fast-check'
import type { RouteSession } from '@orientor/session-contract/core'
import { identityOf, route } from '../fixtures/setup.js'
import { users, World } from './world.js'

/** One thing that happens in a world. */
export type Operation = readonly [label: string, run: (world: World) => void]

const subject = fc.constantFrom(...users)
const demanding = (text: string, demand: Partial<RouteSession>): fc.Arbitrary<Operation> =>
  subject.map(user => [`resolve ${user} ${text}`, world => { world.resolve(identityOf(user), { ...route, ...demand }) }])

const resolve = demanding('', {})
const others: ReadonlyArray<fc.Arbitrary<Operation>> = [
  demanding('within 1 s or fail', { maxStalenessMs: 1000, onUnavailable: 'fail' }),
  demanding('from now', { maxStalenessMs: 0 }),
  fc.tuple(subject, fc.nat({ max: 3 })).map(([user, hint]) => [`resolve ${user} claiming ${hint}`, world => { world.resolve(identityOf(user, { providerUpdatedAt: hint }), route) }]),
  subject.map(user => [`write ${user}`, world => { world.write(user, 'active') }]),
  fc.tuple(subject, fc.constantFrom<'active' | 'inactive' | 'unknown'>('active', 'inactive', 'unknown')).map(([user, kind]) => [`write ${user} ${kind}`, world => { world.write(user, kind) }]),
  subject.map(user => [`invalidate ${user}`, world => { world.invalidateUser(user) }]),
  fc.constant(['invalidate all', world => { world.invalidateAll() }]),
  fc.constant(['preload', world => { world.preload() }]),
  fc.constant(['renew', world => { world.renew() }]),
  fc.tuple(subject, fc.boolean()).map(([user, force]) => [`refresh ${user}${force ? ' by force' : ''}`, world => { world.refresh(user, force) }]),
  fc.constant(['database collapses', world => { world.collapse() }]),
  fc.constantFrom(true, true, false).map(down => [`database ${down ? 'down' : 'up'}`, world => { world.down = down }]),
  fc.constantFrom(1, 80, 900, 2100, 3100, 6000, 12_000).map(ms => [`advance ${ms} ms`, world => { world.clock.advance(ms) }]),
  fc.constant(['beat', world => { world.beat() }]),
  fc.constant(['cut', world => { world.cut() }]),
  fc.constant(['reconnect', world => { world.reconnect() }]),
  fc.constant(['sweep', world => { world.manager.cache.sweep(2) }])
]
// What both clocks hide cannot be known: in one run either the machine sleeps or its wall clock is set.
const clocks: ReadonlyArray<fc.Arbitrary<Operation>> = [
  fc.constantFrom(2000, 4000, 60_000).map(ms => [`sleep ${ms} ms`, world => { world.sleep(ms) }]),
  fc.constantFrom(-60_000, -2000, 3000, 60_000).map(ms => [`set the clock by ${ms} ms`, world => { world.clock.jump(ms) }])
]

/** A few kinds of operations in each run, since all of them at once rarely meet on one user. */
const operations: fc.Arbitrary<readonly Operation[]> = fc.tuple(fc.subarray([...others], { minLength: 2, maxLength: 6 }), fc.constantFrom(...clocks))
  .chain(([kinds, clock]) => fc.array(fc.oneof({ weight: 3, arbitrary: resolve }, ...kinds.map(arbitrary => ({ weight: 2, arbitrary })), clock), { minLength: 3, maxLength: 12 }))

/** What a number of schedules did. */
export interface Explored { readonly schedules: number, readonly lookups: number, readonly stale: number, readonly overtaken: number, readonly openings: number }

/** Runs the operations in the order and with the interleaving that the scheduler chooses, and throws what they broke. */
export async function run (scheduler: fc.Scheduler, withBus: boolean, happening: readonly Operation[]): Promise<World> {
  const world = new World(scheduler, withBus)
  const { task } = scheduler.scheduleSequence(happening.map(([label, operate]) => ({
    label,
    builder: async () => {
      operate(world)
      world.checkBounds()
    }
  })))
  await scheduler.waitFor(task)
  await world.rest()
  if (world.flaws.length > 0) throw new Error([...new Set(world.flaws)].join('\n'))
  return world
}

/** Explores that many schedules; throws, with the shrunken counterexample and its seed, when one breaks a promise. */
export async function explore (numRuns: number, seed: number): Promise<Explored> {
  const explored = { schedules: 0, lookups: 0, stale: 0, overtaken: 0, openings: 0 }
  await fc.assert(fc.asyncProperty(fc.scheduler(), fc.boolean(), operations, async (scheduler, withBus, happening) => {
    const world = await run(scheduler, withBus, happening)
    const stats = world.manager.stats()
    explored.schedules++
    explored.lookups += world.lookups
    explored.stale += stats.staleHits
    explored.overtaken += stats.loadsOvertaken
    explored.openings += stats.circuitOpenings
  }), { numRuns, seed })
  return explored
}
