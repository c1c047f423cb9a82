import { Agent } from 'node:http'
import type { Person } from './people.js'
import { requestUser, type Door, type Observed } from './user-request.js'

const tickMs = 5
const mostOutstanding = 64

interface Round {
  readonly door: Door
  /** Requests that are due. */
  due: number
  /** The place of the person who is asked for next. */
  next: number
  readonly pending: Set<Promise<void>>
}

/**
 * Asks instances for users, at a steady rate that does not wait for answers: an instance that stands still gets its requests all the same,
 * and answers them when it goes on. Sixty-four at most wait at one instance.
 */
export class Readers {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: mostOutstanding })
  readonly #timer: NodeJS.Timeout
  readonly #people: readonly Person[]
  readonly #hear: (observed: Observed) => void
  readonly #rounds = new Map<string, Round>()

  /**
   * @param perSecond - requests to each instance
   * @param hear - told of each answer, in the order in which they come in
   */
  constructor (doors: readonly Door[], people: readonly Person[], perSecond: number, hear: (observed: Observed) => void) {
    this.#people = people
    this.#hear = hear
    for (const door of doors) this.add(door)
    let lastMs = performance.now()
    this.#timer = setInterval(() => {
      const nowMs = performance.now()
      // After a standstill of this process: no burst to make up for it.
      const elapsedMs = Math.min(nowMs - lastMs, 10 * tickMs)
      lastMs = nowMs
      for (const round of this.#rounds.values()) {
        round.due += elapsedMs / 1000 * perSecond
        for (; round.due >= 1; round.due--) {
          if (round.pending.size >= mostOutstanding) continue
          const asking = this.#ask(round).finally(() => { round.pending.delete(asking) })
          round.pending.add(asking)
        }
      }
    }, tickMs)
  }

  /** Names of the instances that are asked. */
  get names (): readonly string[] {
    return [...this.#rounds.keys()]
  }

  /** Asks one more instance. */
  add (door: Door): void {
    const next = Math.floor(Math.random() * this.#people.length)
    this.#rounds.set(door.name, { door, due: Math.random(), next, pending: new Set() })
  }

  /** Asks an instance no more; resolves when what was asked is answered. */
  async remove (name: string): Promise<void> {
    const round = this.#rounds.get(name)
    this.#rounds.delete(name)
    if (round !== undefined) await Promise.all(round.pending)
  }

  /** Asks no more; resolves when what was asked is answered. */
  async stop (): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.names.map(name => this.remove(name)))
    this.#agent.destroy()
  }

  async #ask (round: Round): Promise<void> {
    this.#hear(await requestUser(this.#agent, round.door, this.#people[round.next++ % this.#people.length]!))
  }
}
