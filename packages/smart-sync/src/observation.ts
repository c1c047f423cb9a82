import { createHash } from 'node:crypto'
import { sessionKey, type SessionKey } from '@orientor/session-contract/core'

/** What an identity provider, or a token's claims, say of a user: what a sync may write. */
export interface ObservedProfile {
  readonly email: string | null
  readonly firstName: string | null
  readonly lastName: string | null
  /** Whether the provider itself bars the user. */
  readonly blocked: boolean
  /** Anything else worth keeping, as a JSON object. */
  readonly data: Readonly<Record<string, unknown>> | null
}

/** One sighting of a user, with what it takes to order it among others. Made by `observe()`. */
export interface Observation {
  readonly key: SessionKey
  readonly issuer: string
  readonly subject: string
  readonly profile: ObservedProfile
  /** When the provider last changed the user, by the provider's clock, milliseconds since the epoch; null when it does not say. */
  readonly version: number | null
  /**
   * Orders sightings of one version: `1` or `0` for a complete or partial profile, `1` or `0` for blocked or not, then a SHA-256 of the
   * content. So a complete profile beats a partial one, and between two complete ones the provider's bar wins.
   */
  readonly fingerprint: string
}

/** What is stored of the order of sightings. */
export interface UserState {
  readonly deleted: boolean
  readonly version: number | null
  readonly fingerprint: string | null
}

/** How far a version may lie ahead of our clock, in milliseconds: one bad event must not freeze a user for years. */
export const maxVersionLeadMs = 86_400_000

/**
 * Builds a sighting.
 *
 * @param complete - whether the profile is all the provider knows; what a partial one leaves null is kept as it is stored
 */
export function observe (issuer: string, subject: string, profile: ObservedProfile, version: number | null, complete: boolean): Observation {
  const hash = createHash('sha256').update(canonical([profile.email, profile.firstName, profile.lastName, profile.data])).digest('hex')
  const fingerprint = `${complete ? '1' : '0'}${profile.blocked ? '1' : '0'}${hash}`
  return { key: sessionKey(issuer, subject), issuer, subject, profile, version, fingerprint }
}

/** Whether the version lies so far ahead that it cannot be believed. */
export function isTooFarAhead (version: number | null, nowMs: number): boolean {
  return version !== null && version > nowMs + maxVersionLeadMs
}

/**
 * Whether a sighting is news: no tombstone, and `(version, fingerprint)` greater than what is stored, in this order.
 *
 * A sighting without a version is a hint. It is news only where nothing with a version is stored, if it differs and is no less complete.
 * The same rule stands in SQL, where it decides; this one saves the statement.
 */
export function isNews (stored: UserState | null, incoming: { readonly version: number | null, readonly fingerprint: string }): boolean {
  if (stored === null) return true
  if (stored.deleted) return false
  const known = stored.fingerprint ?? ''
  if (incoming.version === null) {
    return stored.version === null && incoming.fingerprint !== known && incoming.fingerprint.slice(0, 1) >= known.slice(0, 1)
  }
  if (stored.version === null || incoming.version > stored.version) return true
  return incoming.version === stored.version && incoming.fingerprint > known
}

/**
 * Joins two states that both carry a version: commutative, associative and idempotent, so that sightings converge in whatever order and
 * however often they arrive. Deletion is terminal.
 */
export function join (a: UserState, b: UserState): UserState {
  if (a.deleted !== b.deleted) return a.deleted ? a : b
  return isAbove(b, a) ? b : a
}

function isAbove (one: UserState, other: UserState): boolean {
  if (one.version !== other.version) return (one.version ?? -Infinity) > (other.version ?? -Infinity)
  return (one.fingerprint ?? '') > (other.fingerprint ?? '')
}

/** JSON with sorted keys: the same content gives the same text. */
function canonical (value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (inner === null || typeof inner !== 'object' || Array.isArray(inner)) return inner
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1))
  })
}
