import { clerkId } from './clerk-id.js'
import { invalidParameter, notFound, taken } from './clerk-error.js'
import { blankUser, type ClerkUser, type NewUserInput, type UserInput, withInput } from './clerk-user.js'
import type { SimulatorClock } from './simulator-clock.js'

const dayMs = 86_400_000

/** The users of the instance, in order of creation. Every user handed out is a frozen picture that later changes do not touch. */
export class UserDirectory {
  readonly #clock: SimulatorClock
  readonly #users = new Map<string, ClerkUser>()

  constructor (clock: SimulatorClock) {
    this.#clock = clock
  }

  /** Every user, in the order in which they were made. */
  all (): readonly ClerkUser[] {
    return [...this.#users.values()]
  }

  /** @throws ClerkError 404 when there is no such user */
  get (id: string): ClerkUser {
    const user = this.#users.get(id)
    if (user === undefined) throw notFound('user', id)
    return user
  }

  /** @throws ClerkError 422 when the id, an e-mail address, the username or the external id belongs to another user */
  create (input: NewUserInput): ClerkUser {
    const now = this.#clock.now()
    const createdAt = input.createdAt ?? now
    const id = input.id ?? clerkId('user', createdAt)
    if (this.#users.has(id)) throw taken('id')
    return this.#keep({ ...withInput(blankUser(id, createdAt), input, now), updated_at: input.updatedAt ?? createdAt })
  }

  /** @throws ClerkError 404 when there is no such user, 422 as `create` */
  update (id: string, input: UserInput): ClerkUser {
    const before = this.get(id)
    return this.#keep({ ...withInput(before, input, this.#clock.now()), updated_at: input.updatedAt ?? this.#after(before) })
  }

  /** Marks the user as banned, or no longer. */
  setBanned (id: string, banned: boolean): ClerkUser {
    const before = this.get(id)
    return this.#keep({ ...before, banned, updated_at: this.#after(before) })
  }

  /** Notes a sign-in. Does not touch `updated_at`. */
  signedIn (id: string): ClerkUser {
    const now = this.#clock.now()
    return this.#keep({ ...this.get(id), last_sign_in_at: now, last_active_at: Math.floor(now / dayMs) * dayMs })
  }

  /** Removes the user and returns the last picture. */
  delete (id: string): ClerkUser {
    const user = this.get(id)
    this.#users.delete(id)
    return user
  }

  /** A change within the same millisecond still counts as later. */
  #after (before: ClerkUser): number {
    return Math.max(this.#clock.now(), before.updated_at + 1)
  }

  #keep (user: ClerkUser): ClerkUser {
    this.#refuseTaken(user)
    const picture = Object.freeze(structuredClone(user))
    this.#users.set(user.id, picture)
    return picture
  }

  #refuseTaken (user: ClerkUser): void {
    const addresses = user.email_addresses.map(({ email_address: address }) => address)
    if (addresses.includes('')) throw invalidParameter('email_address', 'must not be empty')
    for (const other of this.#users.values()) {
      if (other.id === user.id) continue
      if (other.email_addresses.some(({ email_address: address }) => addresses.includes(address))) throw taken('email_address')
      if (user.username !== null && other.username === user.username) throw taken('username')
      if (user.external_id !== null && other.external_id === user.external_id) throw taken('external_id')
    }
  }
}
