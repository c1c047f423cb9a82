import { createHash } from 'node:crypto'
import { sessionKey, type SessionKey } from '@orientor/session-contract/core'
import { errors } from './errors.js'

/** The part of what an identity provider, or a token's claims, say of a user that a sync may write. */
export interface ObservedProfile {
  readonly email: string | null
  readonly firstName: string | null
  readonly lastName: string | null
  /** Whether the provider itself bars the user. */
  readonly blocked: boolean
  /** Anything else worth keeping, as a JSON object. */
  readonly data: Readonly<Record<string, unknown>> | null
}

/** Something that was learned about a user: one of the kinds below. Each is made by the function of its name. */
export type Observation = ProfileObserved | SessionEnded | UserDeleted

/** The user whom an observation is about. */
interface OfUser {
  readonly key: SessionKey
  readonly issuer: string
  readonly subject: string
}

/** A profile as the provider, or a token, tells it, with what it takes to order it among others. Made by observe(). */
export interface ProfileObserved extends OfUser {
  readonly kind: 'profile'
  readonly profile: ObservedProfile
  /**
   * The instant of the provider's last change of the user, by the provider's clock, in milliseconds since the epoch;
   * null when it does not say.
   */
  readonly version: number | null
  /**
   * The order of observations of one version: `1` or `0` for a complete or partial profile, `1` or `0` for blocked or
   * not, then a SHA-256 of the content. So a complete profile beats a partial one, and between two complete ones the
   * provider's bar wins.
   */
  readonly fingerprint: string
}

/** A session that is over: its tokens are refused until they have expired. Made by sessionEnded(). */
export interface SessionEnded extends OfUser {
  readonly kind: 'session_ended'
  /** The session (`sid` of the tokens). */
  readonly sessionId: string
  /** The instant after which no token of the session is good any more, in milliseconds since the epoch. */
  readonly tokensExpireAtMs: number
}

/** The deletion of a user at the provider, which nothing takes back. Made by userDeleted(). */
export interface UserDeleted extends OfUser {
  readonly kind: 'deleted'
}

/** The part of a stored user that orders observations. */
export interface UserState {
  readonly deleted: boolean
  readonly version: number | null
  readonly fingerprint: string | null
}

/** The furthest that a version may lie ahead of our clock, in milliseconds: one bad event must not freeze a user for years. */
export const maxVersionLeadMs = 86_400_000

/** The rule of a session's id: 1 to 255 visible ASCII characters. */
const sessionId = /^[\x21-\x7e]{1,255}$/

/** The last instant that a Date can hold, in milliseconds since the epoch (ECMA-262, "Time Values and Time Range"). */
const maxInstantMs = 8_640_000_000_000_000

/**
 * Builds the observation of a profile.
 *
 * @param version - when the provider last changed the user, a whole number of milliseconds since the epoch; null: it
 *   does not say
 * @param complete - whether the profile is all the provider knows; what a partial one leaves null is kept as it is
 *   stored
 * @throws ORI_SYNC_INVALID_OBSERVATION when the version is neither
 */
export function observe (
  issuer: string, subject: string, profile: ObservedProfile, version: number | null, complete: boolean
): ProfileObserved {
  if (version !== null && !(Number.isInteger(version) && version >= 0 && version <= maxInstantMs)) {
    throw new errors.InvalidObservation('a version is a whole number of milliseconds since the epoch, or null')
  }
  const content = canonical([profile.email, profile.firstName, profile.lastName, profile.data])
  const hash = createHash('sha256').update(content).digest('hex')
  const fingerprint = `${complete ? '1' : '0'}${profile.blocked ? '1' : '0'}${hash}`
  return { kind: 'profile', ...ofUser(issuer, subject), profile, version, fingerprint }
}

/**
 * Builds the observation of a session that is over.
 *
 * @param id - the session, as its tokens name it (`sid`)
 * @param tokensExpireAtMs - the instant after which no token of the session is good, in milliseconds since the epoch
 * @throws ORI_SYNC_INVALID_OBSERVATION when isSessionId() is false, or the instant is no whole number
 */
export function sessionEnded (issuer: string, subject: string, id: string, tokensExpireAtMs: number): SessionEnded {
  if (!isSessionId(id)) throw new errors.InvalidObservation('the id of a session is 1 to 255 visible ASCII characters')
  if (!Number.isSafeInteger(tokensExpireAtMs)) {
    throw new errors.InvalidObservation('the instant at which tokens expire is a whole number of milliseconds')
  }
  return { kind: 'session_ended', ...ofUser(issuer, subject), sessionId: id, tokensExpireAtMs }
}

/** Builds the observation of a user's deletion. */
export function userDeleted (issuer: string, subject: string): UserDeleted {
  return { kind: 'deleted', ...ofUser(issuer, subject) }
}

const fingerprintForm = /^[01]{2}[0-9a-f]{64}$/

/**
 * Refuses an observation that was not made by the functions above: its key could be another user's.
 *
 * @throws ORI_SYNC_INVALID_OBSERVATION
 */
export function checkObservation (observation: Observation): void {
  const { kind, key, issuer, subject } = observation
  if (sessionKey(issuer, subject) !== key) throw new errors.InvalidObservation('its key is of its issuer and subject')
  switch (kind) {
    case 'profile':
      if (fingerprintForm.test(observation.fingerprint)) return
      throw new errors.InvalidObservation('its fingerprint is made of its profile')
    case 'session_ended':
      if (isSessionId(observation.sessionId) && Number.isSafeInteger(observation.tokensExpireAtMs)) return
      throw new errors.InvalidObservation('it names a session, and when its tokens expire')
    case 'deleted': return
    default: throw new errors.InvalidObservation('its kind is one of profile, session_ended and deleted')
  }
}

/** Whether a value can be the id of a session. */
export function isSessionId (value: unknown): value is string {
  return typeof value === 'string' && sessionId.test(value)
}

/** Whether the version lies so far ahead that it cannot be believed. */
export function isTooFarAhead (version: number | null, nowMs: number): boolean {
  return version !== null && version > nowMs + maxVersionLeadMs
}

/**
 * Whether a profile is news: no tombstone, and `(version, fingerprint)` greater than what is stored, in this order.
 *
 * A profile without a version is a hint. It is news only where nothing with a version is stored, if it differs and is
 * no less complete. The same rule stands in SQL, where it decides; this one saves the statement.
 */
export function isNews (
  stored: UserState | null, incoming: { readonly version: number | null, readonly fingerprint: string }
): boolean {
  if (stored === null) return true
  if (stored.deleted) return false
  const fingerprint = stored.fingerprint ?? ''
  if (incoming.version === null) {
    const isNoLess = incoming.fingerprint.slice(0, 1) >= fingerprint.slice(0, 1)
    return stored.version === null && incoming.fingerprint !== fingerprint && isNoLess
  }
  if (stored.version === null || incoming.version > stored.version) return true
  return incoming.version === stored.version && incoming.fingerprint > fingerprint
}

/** Whether one state is above the other: by version, then by fingerprint; what is not there is below all. */
export function isAbove (one: Omit<UserState, 'deleted'>, other: Omit<UserState, 'deleted'>): boolean {
  if (one.version !== other.version) return (one.version ?? -Infinity) > (other.version ?? -Infinity)
  return (one.fingerprint ?? '') > (other.fingerprint ?? '')
}

function ofUser (issuer: string, subject: string): OfUser {
  return { key: sessionKey(issuer, subject), issuer, subject }
}

/** JSON with sorted keys: the same content gives the same text. */
function canonical (value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (inner === null || typeof inner !== 'object' || Array.isArray(inner)) return inner
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1))
  })
}
