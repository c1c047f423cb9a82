/** A change that is on its way. */
export interface Change {
  /** The instant from which it is measured, by `performance.now()`. */
  readonly sentAtMs: number
  /** Asks an instance for the user. Resolves with the instant of the answer; null: the change was not in it yet. */
  ask (instance: string): Promise<number | null>
}

/** Instances, and a way to change users. */
export interface PropagationScene {
  /** The names of the instances. */
  readonly instances: readonly string[]
  /** Makes a change. */
  change (): Promise<Change>
}

/** The times that changes took, in milliseconds, in the order of the changes. */
export interface Propagation {
  /** To the last instance. */
  readonly slowest: readonly number[]
  readonly byInstance: ReadonlyMap<string, readonly number[]>
}

// Asked again after two milliseconds while a change is on its way, and not at all between: the polling must not be what
// is measured.
const pollEveryMs = 2
const arrivesWithinMs = 10_000
// Longer than the time between two polls, so that changes come at any instant of it: the last one was seen by a poll.
const leastPauseMs = 20
const mostPauseMs = 270

/**
 * Makes changes one after another and asks every instance until it serves the change.
 *
 * @throws when a change does not arrive within 10 s
 */
export async function propagate ({ instances, change }: PropagationScene, changes: number): Promise<Propagation> {
  const slowest: number[] = []
  const byInstance = new Map(instances.map(name => [name, [] as number[]]))
  for (let made = 0; made < changes; made++) {
    await pause(leastPauseMs + Math.random() * (mostPauseMs - leastPauseMs))
    const underway = await change()
    const times = await Promise.all(instances.map(async name => await arrival(name, underway) - underway.sentAtMs))
    for (const [index, name] of instances.entries()) byInstance.get(name)!.push(times[index]!)
    slowest.push(Math.max(...times))
  }
  return { slowest, byInstance }
}

/** The instant at which the instance first answered with the change. */
async function arrival (instance: string, change: Change): Promise<number> {
  const untilMs = performance.now() + arrivesWithinMs
  for (;;) {
    const atMs = await change.ask(instance)
    if (atMs !== null) return atMs
    if (performance.now() > untilMs) {
      throw new Error(`instance ${instance} does not serve a change within ${arrivesWithinMs} ms`)
    }
    await pause(pollEveryMs)
  }
}

function pause (ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}
