import { Agent } from 'node:http'
import type { Person } from './people.js'
import { requestUser, type Door } from './user-request.js'

const warmWithinMs = 30_000
const pauseMs = 20

/**
 * Asks every instance for every user, one after another, until each has been served and, with `trusted`, the instance trusts its bus.
 *
 * @throws when that takes more than 30 s
 */
export async function warmUp (doors: readonly Door[], people: readonly Person[], { trusted }: { readonly trusted: boolean }): Promise<void> {
  const agent = new Agent({ keepAlive: true })
  const untilMs = performance.now() + warmWithinMs
  const warm = async (door: Door): Promise<void> => {
    for (const person of people) {
      for (;;) {
        const { view } = await requestUser(agent, door, person)
        if (view !== null && (view.trusted || !trusted)) break
        if (performance.now() > untilMs) throw new Error(`instance ${door.name} ${view === null ? 'does not serve its users' : 'does not trust its bus'} within ${warmWithinMs} ms`)
        await new Promise(resolve => { setTimeout(resolve, pauseMs) })
      }
    }
  }
  try {
    await Promise.all(doors.map(warm))
  } finally {
    agent.destroy()
  }
}
