import type { SessionKey } from '@orientor/session-contract/core'
import { isAbove, type Observation, type ProfileObserved } from './observation.js'
import type { UserKey } from './user-store.js'

/** The ids of sessions that are over, by the instant until which their tokens live, in milliseconds since the epoch. */
export type EndedSessions = Readonly<Record<string, number>>

/** Everything that a set of observations says of one user: their join. */
export interface UserUpdate extends UserKey {
  /** The highest of the profiles; null: none was observed. */
  readonly profile: ProfileObserved | null
  /** The sessions that are over, each with the latest of its instants; null: none. */
  readonly endedSessions: EndedSessions | null
  readonly isDeleted: boolean
}

/** The update that a profile alone makes. */
export function profileUpdate (profile: ProfileObserved): UserUpdate {
  const { key, issuer, subject } = profile
  return { key, issuer, subject, profile, endedSessions: null, isDeleted: false }
}

/** Joins observations by user: the order in which they are given, and how often each is, makes no difference. */
export function joinedByUser (observations: readonly Observation[]): ReadonlyMap<SessionKey, UserUpdate> {
  const updates = new Map<SessionKey, UserUpdate>()
  for (const observation of observations) {
    const { key, issuer, subject } = observation
    const before = updates.get(key) ?? { key, issuer, subject, profile: null, endedSessions: null, isDeleted: false }
    updates.set(key, joined(before, observation))
  }
  return updates
}

function joined (update: UserUpdate, observation: Observation): UserUpdate {
  switch (observation.kind) {
    case 'profile': {
      const isHigher = update.profile === null || isAbove(observation, update.profile)
      return isHigher ? { ...update, profile: observation } : update
    }
    case 'session_ended': {
      const { sessionId, tokensExpireAtMs } = observation
      const sessions = new Map(Object.entries(update.endedSessions ?? {}))
      const untilMs = Math.max(tokensExpireAtMs, sessions.get(sessionId) ?? 0)
      // Built of entries, so that no id is taken for a name of the prototype.
      return { ...update, endedSessions: withEntry(update.endedSessions, sessionId, untilMs) }
    }
    case 'deleted':
      return { ...update, isDeleted: true }
  }
}

function withEntry (sessions: EndedSessions | null, id: string, untilMs: number): EndedSessions {
  return Object.fromEntries([...Object.entries(sessions ?? {}).filter(([other]) => other !== id), [id, untilMs]])
}
