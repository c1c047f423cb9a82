import fc from 'fast-check'
import type { RouteSession } from '@orientor/session-contract/core'
import { identityOf, route } from '../fixtures/setup.js'
import { users, World } from './world.js'

/** One thing that happens in a world. */
export type Operation = readonly [label: string, run: (world: World) => void]

type Kinds = Readonly<Record<string, fc.Arbitrary<Operation>>>

/** What can happen to the first so many users. */
function kindsFor (population: number): Kinds {
  const subject = fc.constantFrom(...users.slice(0, population))
  const demanding = (text: string, demand: Partial<RouteSession>): fc.Arbitrary<Operation> =>
    subject.map(user => [`resolve ${user} ${text}`, world => { world.resolve(identityOf(user), { ...route, ...demand }) }])
  const advance = (...steps: number[]): fc.Arbitrary<Operation> => fc.constantFrom(...steps).map(ms => [`advance ${ms} ms`, world => { world.clock.advance(ms) }])
  return {
    resolve: demanding('', {}),
    strictly: demanding('within 1 s or fail', { maxStalenessMs: 1000, onUnavailable: 'fail' }),
    fromNow: demanding('from now', { maxStalenessMs: 0 }),
    claiming: fc.tuple(subject, fc.nat({ max: 3 })).map(([user, hint]) => [`resolve ${user} claiming ${hint}`, world => { world.resolve(identityOf(user, { providerUpdatedAt: hint }), route) }]),
    write: subject.map(user => [`write ${user}`, world => { world.write(user, 'active') }]),
    bar: fc.tuple(subject, fc.constantFrom<'active' | 'inactive' | 'unknown'>('active', 'inactive', 'unknown')).map(([user, kind]) => [`write ${user} ${kind}`, world => { world.write(user, kind) }]),
    invalidate: subject.map(user => [`invalidate ${user}`, world => { world.invalidateUser(user) }]),
    invalidateAll: fc.constant(['invalidate all', world => { world.invalidateAll() }]),
    preload: fc.constant(['preload', world => { world.preload() }]),
    renew: fc.constant(['renew', world => { world.renew() }]),
    refresh: fc.tuple(subject, fc.boolean()).map(([user, force]) => [`refresh ${user}${force ? ' by force' : ''}`, world => { world.refresh(user, force) }]),
    collapse: fc.constant(['database collapses', world => { world.collapse() }]),
    down: fc.constantFrom(true, true, false).map(down => [`database ${down ? 'down' : 'up'}`, world => { world.down = down }]),
    tick: advance(1, 80, 900, 2100),
    wait: advance(2500, 3100, 6000),
    waitLong: advance(8000, 12_000),
    beat: fc.constant(['beat', world => { world.beat() }]),
    cut: fc.constant(['cut', world => { world.cut() }]),
    missed: subject.map(user => [`write ${user} between two epochs`, world => { world.cut(); world.write(user, 'active'); world.reconnect() }]),
    reconnect: fc.constant(['reconnect', world => { world.reconnect() }]),
    sweep: fc.constant(['sweep', world => { world.manager.cache.sweep(2) }]),
    sleep: fc.constantFrom(2000, 4000, 7000, 60_000).map(ms => [`sleep ${ms} ms`, world => { world.sleep(ms) }]),
    setClock: fc.constantFrom(-60_000, -2000, 3000, 60_000).map(ms => [`set the clock by ${ms} ms`, world => { world.clock.jump(ms) }])
  }
}

/** What belongs together: all kinds at once rarely meet on one user. What both clocks hide cannot be known, so either one sleeps or is set. */
const stories: ReadonlyArray<readonly string[]> = [
  ['fromNow', 'claiming', 'write', 'bar', 'invalidate', 'invalidateAll', 'refresh', 'preload'],
  ['fromNow', 'strictly', 'write', 'cut', 'tick', 'wait', 'sleep'],
  ['fromNow', 'strictly', 'write', 'cut', 'tick', 'wait', 'setClock'],
  ['fromNow', 'write', 'beat', 'cut', 'reconnect', 'renew', 'tick', 'wait'],
  ['fromNow', 'missed', 'beat', 'tick', 'wait'],
  ['missed', 'beat', 'wait'],
  ['write', 'invalidateAll', 'tick'],
  ['write', 'cut', 'wait', 'setClock'],
  ['write', 'bar', 'cut', 'down', 'collapse', 'tick', 'wait', 'waitLong', 'sweep'],
  ['fromNow', 'invalidate', 'invalidateAll', 'refresh', 'preload', 'tick', 'down']
]

const happenings: fc.Arbitrary<readonly Operation[]> = fc.constantFrom(1, 1, 2, users.length).chain(population => {
  const kinds = kindsFor(population)
  const told = (names: readonly string[]): fc.Arbitrary<Operation[]> => fc.array(
    fc.oneof({ weight: Math.ceil(names.length / 2), arbitrary: kinds['resolve']! }, ...names.map(name => ({ weight: 1, arbitrary: kinds[name]! }))), { minLength: 3, maxLength: 14 })
  const anything = fc.subarray(Object.keys(kinds).filter(name => name !== 'setClock'), { minLength: 2, maxLength: 7 }).chain(told)
  return fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...stories).chain(told) }, { weight: 1, arbitrary: anything })
})

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
  await fc.assert(fc.asyncProperty(fc.scheduler(), fc.boolean(), happenings, async (scheduler, withBus, happening) => {
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
