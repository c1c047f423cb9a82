import { clerkId } from './clerk-id.js'
import { notFound } from './clerk-error.js'
import type { SimulatorClock } from './simulator-clock.js'

/** How a session can come to its end: by the user, by the user on another device, by an administrator. */
export type SessionEnd = 'ended' | 'removed' | 'revoked'

/** The Session object of the Backend API. Every `*_at` is in milliseconds since the Unix epoch. */
export interface ClerkSession {
  readonly object: 'session'
  readonly id: string
  readonly user_id: string
  readonly client_id: string
  readonly actor: null
  readonly status: 'active' | SessionEnd
  readonly last_active_organization_id: null
  readonly last_active_at: number
  readonly expire_at: number
  readonly abandon_at: number
  readonly updated_at: number
  readonly created_at: number
}

const expireAfterMs = 7 * 86_400_000
const abandonAfterMs = 30 * 86_400_000

/** The sessions of the instance. A session belongs to one user for ever. */
export class SessionDirectory {
  readonly #clock: SimulatorClock
  readonly #sessions = new Map<string, ClerkSession>()

  constructor (clock: SimulatorClock) {
    this.#clock = clock
  }

  /** A new active session. */
  open (userId: string): ClerkSession {
    const now = this.#clock.now()
    return this.#keep({
      object: 'session',
      id: clerkId('sess', now),
      user_id: userId,
      client_id: clerkId('client', now),
      actor: null,
      status: 'active',
      last_active_organization_id: null,
      last_active_at: now,
      expire_at: now + expireAfterMs,
      abandon_at: now + abandonAfterMs,
      updated_at: now,
      created_at: now
    })
  }

  /** @throws ClerkError 404 when the user has no such session */
  get (id: string, userId: string): ClerkSession {
    const session = this.#sessions.get(id)
    if (session === undefined || session.user_id !== userId) throw notFound('session', id)
    return session
  }

  /** The active sessions of a user, oldest first. */
  activeOf (userId: string): readonly ClerkSession[] {
    return [...this.#sessions.values()].filter(session => session.user_id === userId && session.status === 'active')
  }

  /** Ends a session. */
  end (session: ClerkSession, how: SessionEnd): ClerkSession {
    return this.#keep({ ...session, status: how, updated_at: this.#clock.now() })
  }

  /** Forgets the sessions of a deleted user. */
  forget (userId: string): void {
    for (const session of this.#sessions.values()) {
      if (session.user_id === userId) this.#sessions.delete(session.id)
    }
  }

  #keep (session: ClerkSession): ClerkSession {
    const picture = Object.freeze(session)
    this.#sessions.set(session.id, picture)
    return picture
  }
}
