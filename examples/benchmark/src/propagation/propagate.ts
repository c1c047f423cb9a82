import { Agent } from 'node:http'
import { requestUser, warmUp, Writer, type Cluster, type Door, type Person } from '@orientor-examples/cluster/harness.js'

/** How long changes took, in milliseconds, in the order of the changes. */
export interface Propagation {
  /** To the last instance. */
  readonly slowest: readonly number[]
  readonly byInstance: ReadonlyMap<string, readonly number[]>
}

// Asked again after two milliseconds while a change is on its way, and not at all between: the polling must not be what is measured.
const pollEveryMs = 2
const arrivesWithinMs = 10_000
// Longer than the time between two polls, so that changes come at any instant of it: the last one was seen by a poll.
const leastPauseMs = 20
const mostPauseMs = 270

/**
 * Changes users one after another and asks every instance until it serves the change, unmarked.
 *
 * @throws when a change does not arrive within 10 s
 */
export async function propagate ({ databaseUrl, members, people: { list } }: Cluster, changes: number): Promise<Propagation> {
  const agent = new Agent({ keepAlive: true })
  const writer = new Writer(databaseUrl, { begin () {}, commit () {} })
  const doors = members.map(({ process }) => process)
  const slowest: number[] = []
  const byInstance = new Map(doors.map(({ name }) => [name, [] as number[]]))
  try {
    await writer.start(list.map(({ subject }) => subject))
    await warmUp(doors, list, { trusted: true })
    for (let change = 0; change < changes; change++) {
      await pause(leastPauseMs + Math.random() * (mostPauseMs - leastPauseMs))
      const person = list[change % list.length]!
      const commit = await writer.write(person.subject)
      if (commit === null) throw new Error('a change was not committed')
      const times = await Promise.all(doors.map(door => arrival(agent, door, person, commit.version)))
      for (const [index, { name }] of doors.entries()) byInstance.get(name)!.push(times[index]! - commit.returnedAtMs)
      slowest.push(Math.max(...times) - commit.returnedAtMs)
    }
    return { slowest, byInstance }
  } finally {
    await writer.stop()
    agent.destroy()
  }
}

/** When the instance first answered with the version. */
async function arrival (agent: Agent, door: Door, person: Person, version: number): Promise<number> {
  const untilMs = performance.now() + arrivesWithinMs
  for (;;) {
    const { read: { answer, endedAtMs } } = await requestUser(agent, door, person)
    if (answer.kind === 'user' && !answer.marked && answer.version >= version) return endedAtMs
    if (endedAtMs > untilMs) throw new Error(`instance ${door.name} does not serve a change within ${arrivesWithinMs} ms`)
    await pause(pollEveryMs)
  }
}

function pause (ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}
