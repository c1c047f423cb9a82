import type { Person } from './people.js'
import type { Writer } from './writer.js'

/** How often which users change. */
export interface ChangePlan {
  /** Changed all the time, one after another. */
  readonly busy: readonly Person[]
  /** Changed seldom and then twice in a row: the second write meets the load that the first one causes, and nothing comes after it to the rescue. */
  readonly seldom: readonly Person[]
  /** From one change to the next, over all the busy ones, on average. */
  readonly busyEveryMs: number
  /** From one change of a user to the next of the same one, on average. */
  readonly seldomEveryMs: number
}

const mostBetweenTwoMs = 40

/** Keeps changing users until stopped. */
export class Changes {
  readonly #writer: Writer
  readonly #done: Promise<unknown>
  readonly #stopping = new AbortController()

  constructor (writer: Writer, { busy, seldom, busyEveryMs, seldomEveryMs }: ChangePlan) {
    this.#writer = writer
    this.#done = Promise.all([
      this.#keep(busy, busyEveryMs, async ({ subject }) => { await writer.write(subject) }),
      this.#keep(seldom, seldomEveryMs / seldom.length, async ({ subject }) => {
        await writer.write(subject)
        await this.#pause(Math.random() * mostBetweenTwoMs)
        await writer.write(subject)
      })
    ])
  }

  /** Changes nobody any more. */
  async stop (): Promise<void> {
    this.#stopping.abort()
    await this.#writer.stop()
    await this.#done
  }

  async #keep (people: readonly Person[], everyMs: number, change: (person: Person) => Promise<void>): Promise<void> {
    for (let turn = 0; people.length > 0 && !this.#stopping.signal.aborted; turn++) {
      await this.#pause(everyMs * (0.5 + Math.random()))
      if (!this.#stopping.signal.aborted) await change(people[turn % people.length]!)
    }
  }

  #pause (ms: number): Promise<void> {
    return new Promise(resolve => {
      const { signal } = this.#stopping
      const over = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', over)
        resolve()
      }
      const timer = setTimeout(over, ms)
      signal.addEventListener('abort', over)
    })
  }
}
