import { defaultRouteSession, type Identity, type LoadRequest, type SessionOutcome, type UserRecord, type UserSource } from '@orientor/session-contract/core'
import { DatabaseSessionManager, resolveOptions } from '@orientor/session-cache/core'
import { ManualClock } from '@orientor/test-kit'
import { seeded } from '../measure/random.js'
import { recordOf } from './population.js'

const batch = 500
/** In how many turns of the event loop the source must have been asked. */
const mostTurns = 100

interface Open { readonly request: LoadRequest, readonly answer: (record: UserRecord) => void }

/** A cache as an app has it, over a source whose answers arrive when the measurement says so. */
export class Product {
  readonly clock: ManualClock = new ManualClock()
  readonly manager: DatabaseSessionManager
  readonly #open: Open[] = []

  constructor (maxEntries: number) {
    // A clock's monotonic time is hardly ever a whole number, and takes more room.
    this.clock.advance(0.5)
    const source: UserSource = {
      load: requests => requests.map(request => new Promise<UserRecord>(resolve => { this.#open.push({ request, answer: resolve }) }))
    }
    this.manager = new DatabaseSessionManager(resolveOptions({ source, maxEntries, clock: this.clock, random: seeded(1) }))
  }

  /**
   * Lets users sign in who are not in memory, 500 at a time.
   *
   * @param stored - told how long each took, in milliseconds, from the arrival of the record to the answer of the waiting request:
   *   the check of the record, the making of the entry, eviction and storing
   */
  async signIn (count: number, identity: (index: number) => Identity, stored: (index: number, elapsedMs: number) => void = () => {}): Promise<void> {
    for (let start = 0; start < count; start += batch) {
      const waiting: Array<PromiseLike<SessionOutcome> | SessionOutcome> = []
      for (let index = start; index < Math.min(start + batch, count); index++) waiting.push(this.manager.resolve(identity(index), defaultRouteSession))
      for (let turns = 0; this.#open.length < waiting.length && turns < mostTurns; turns++) await new Promise(resolve => { setImmediate(resolve) })
      if (this.#open.length !== waiting.length) throw new Error(`${waiting.length} users signed in, ${this.#open.length} were asked for`)
      for (let index = 0; index < waiting.length; index++) {
        const { request, answer } = this.#open[index]!
        const record = recordOf(request)
        const before = performance.now()
        answer(record)
        await waiting[index]
        stored(start + index, performance.now() - before)
      }
      this.#open.length = 0
      await new Promise(resolve => { setImmediate(resolve) })
    }
  }
}
