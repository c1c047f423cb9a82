import { Agent } from 'node:http'
import type { Person } from './people.js'
import { requestUser, type Door, type Observed } from './user-request.js'

const tickMs = 5
const mostOutstanding = 64

/**
 * Asks instances for users, at a steady rate that does not wait for answers: an instance that stands still gets its requests all the same,
 * and answers them when it goes on. Sixty-four at most wait at one instance.
 */
export class Readers {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: mostOutstanding })
  readonly #timer: NodeJS.Timeout
  readonly #pending = new Set<Promise<void>>()

  /**
   * @param perSecond - requests to each instance
   * @param hear - told of each answer, in the order in which they come in
   */
  constructor (doors: readonly Door[], people: readonly Person[], perSecond: number, hear: (observed: Observed) => void) {
    const rounds = doors.map(door => ({ door, outstanding: 0, due: Math.random(), next: Math.floor(Math.random() * people.length) }))
    const ask = async (round: typeof rounds[number]): Promise<void> => {
      round.outstanding++
      hear(await requestUser(this.#agent, round.door, people[round.next++ % people.length]!))
      round.outstanding--
    }
    let lastMs = performance.now()
    this.#timer = setInterval(() => {
      const nowMs = performance.now()
      // After a standstill of this process: no burst to make up for it.
      const elapsedMs = Math.min(nowMs - lastMs, 10 * tickMs)
      lastMs = nowMs
      for (const round of rounds) {
        round.due += elapsedMs / 1000 * perSecond
        for (; round.due >= 1; round.due--) {
          if (round.outstanding >= mostOutstanding) continue
          const asking = ask(round).finally(() => { this.#pending.delete(asking) })
          this.#pending.add(asking)
        }
      }
    }, tickMs)
  }

  /** Asks no more; resolves when what was asked is answered. */
  async stop (): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.#pending)
    this.#agent.destroy()
  }
}
