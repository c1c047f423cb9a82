import { observe, type ProfileObserved } from '@orientor/smart-sync/core'
import { seeded } from '../measure/random.js'

/** The issuer of all users. */
export const issuer = 'https://clerk.example.com'

/**
 * Users of a table of so many, each time with a later version and another name: an endless line of changes, in turns
 * that have each user once at most. Each turn has an order of its own, the same in every run: users who change at the
 * same time are no neighbours in the table.
 */
export class ChangedUsers {
  readonly #firstVersionMs: number
  readonly #random = seeded(1)
  readonly #order: number[]
  #turn = -1
  #place: number

  constructor (count: number, firstVersionMs: number) {
    this.#firstVersionMs = firstVersionMs
    this.#order = Array.from({ length: count }, (_, user) => user)
    this.#place = count
  }

  /** The next changes, each of another user, so at most as many as there are users. */
  next (changes: number): readonly ProfileObserved[] {
    if (this.#place + changes > this.#order.length) this.#shuffle()
    return Array.from({ length: changes }, () => {
      const [user, turn] = [this.#order[this.#place++]!, this.#turn]
      return observe(issuer, `user_${user}`, {
        email: `user-${user}@example.com`,
        firstName: `Ada ${turn}`,
        lastName: `Lovelace ${user}`,
        blocked: false,
        data: {
          username: `ada-${user}`,
          image_url: `https://img.example.com/${user}`,
          public_metadata: { plan: 'pro', seats: user % 50 }
        }
      }, this.#firstVersionMs + turn, true)
    })
  }

  #shuffle (): void {
    this.#turn++
    this.#place = 0
    for (let at = this.#order.length - 1; at > 0; at--) {
      const other = Math.floor(this.#random() * (at + 1));
      [this.#order[at], this.#order[other]] = [this.#order[other]!, this.#order[at]!]
    }
  }
}
