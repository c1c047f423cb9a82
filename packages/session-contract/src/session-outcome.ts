import type { Identity } from './identity.js'
import type { ActiveRecord, LoadedUser, SessionUser, UserRecord } from './user.js'

/** The user, and how this one request came by it. */
export interface UserOutcome {
  readonly kind: 'user'
  readonly user: SessionUser
  /** True when the source could not be asked and the user is older than the bound. */
  readonly stale: boolean
  readonly from: 'cache' | 'source'
  /** When the record was loaded, wall clock, milliseconds since the epoch. */
  readonly cachedAtMs: number
  /** False: the last sync with the provider failed. */
  readonly dbSynced: boolean
  /** When the user was last in step with the provider, milliseconds since the epoch. */
  readonly lastSyncedAtMs: number | null
}

/** A verified identity, and nobody in scope who resolves users. */
export interface IdentifiedOutcome { readonly kind: 'identified' }
/** No credentials. */
export interface AnonymousOutcome { readonly kind: 'anonymous' }
/** Credentials that cannot be read (400) or are not accepted (401), with the error code of RFC 6750, section 3.1. */
export interface BearerRefusal {
  readonly kind: 'refused'
  readonly error: 'invalid_request' | 'invalid_token'
  readonly description: string
}
/** Credentials that the application's own authentication refuses with a status that RFC 6750 has no error code for. */
export interface StatusRefusal {
  readonly kind: 'refused'
  readonly error: null
  readonly description: string
  /** 400 to 499. */
  readonly status: number
}
/** Credentials that are refused. */
export type RefusedOutcome = BearerRefusal | StatusRefusal
/** A known user who may not act (403). */
export interface ForbiddenOutcome { readonly kind: 'forbidden', readonly reason: 'inactive' }
/** Nobody could tell, for reasons that pass (503). */
export interface UnavailableOutcome { readonly kind: 'unavailable', readonly retryAfterMs: number, readonly cause: unknown }
/** A defect, not an outage, kept the request from being resolved (500). The hub has logged its cause. */
export interface FailedOutcome { readonly kind: 'failed', readonly cause: unknown }

/** How one request was resolved. Frozen; a cache entry owns its own two (fresh, stale), so that a hit allocates nothing. */
export type SessionOutcome = UserOutcome | IdentifiedOutcome | AnonymousOutcome | RefusedOutcome | ForbiddenOutcome | UnavailableOutcome | FailedOutcome

/** The outcome of a request that has no identity: what the slot `identify` may answer instead of one. */
export type Unresolved = Exclude<SessionOutcome, UserOutcome | IdentifiedOutcome>

/** The outcome of a request without credentials. */
export const anonymous: AnonymousOutcome = Object.freeze({ kind: 'anonymous' })
/** The outcome where nobody resolves users: who the identity is stays unknown. */
export const identified: IdentifiedOutcome = Object.freeze({ kind: 'identified' })
/** The outcome of a token that isRevoked(). */
export const revoked: BearerRefusal = refused('invalid_token', 'The token was revoked')
const gone: RefusedOutcome = refused('invalid_token', 'The token names no user')
const nothing: SessionUser['extra'] = Object.freeze({})
const inactive: ForbiddenOutcome = Object.freeze({ kind: 'forbidden', reason: 'inactive' })

/** Credentials that are refused. `description` is ASCII and holds no value of the token (RFC 6750, section 3). */
export function refused (error: BearerRefusal['error'], description: string): BearerRefusal {
  return Object.freeze({ kind: 'refused', error, description })
}

/** Credentials that are refused with a status of the application's own, 400 to 499. */
export function refusedByStatus (status: number, description: string): StatusRefusal {
  return Object.freeze({ kind: 'refused', error: null, description, status })
}

/**
 * The outcome of a request that cannot be resolved for reasons that pass.
 *
 * @param retryAfterMs - when asking again makes sense, in milliseconds from now
 * @param cause - for the log; null when there is nothing in it that an operator could act on. It does not appear in JSON.
 */
export function unavailable (retryAfterMs: number, cause: unknown): UnavailableOutcome {
  return withCause({ kind: 'unavailable', retryAfterMs }, cause)
}

/** The outcome of a request that a defect kept from being resolved. The cause does not appear in JSON. */
export function failed (cause: unknown): FailedOutcome {
  return withCause({ kind: 'failed' }, cause)
}

/**
 * Whether the record revokes the token behind this identity: its session was ended, or it was issued in or before the second
 * from which the user's tokens count. An identity that does not tell when it was issued is revoked by any such second.
 */
export function isRevoked (record: ActiveRecord, identity: Identity): boolean {
  if (record.tokensValidFromMs > 0) {
    if (identity.issuedAtMs === null) return true
    if (Math.floor(identity.issuedAtMs / 1000) <= Math.floor(record.tokensValidFromMs / 1000)) return true
  }
  return identity.sessionId !== null && record.revokedSessions.length > 0 && record.revokedSessions.includes(identity.sessionId)
}

/** The outcome of an active record, apart from the question whether one token of the user was revoked. */
export function userOutcome (record: ActiveRecord, from: UserOutcome['from'], cachedAtMs: number, stale: boolean): UserOutcome {
  return Object.freeze({
    kind: 'user',
    user: isComplete(record.user) ? record.user : Object.freeze({ ...record.user, extra: nothing }),
    stale,
    from,
    cachedAtMs,
    dbSynced: record.sync !== 'failed',
    lastSyncedAtMs: record.lastSyncedAtMs
  })
}

function isComplete (user: LoadedUser): user is SessionUser {
  return user.extra !== undefined
}

/**
 * record → outcome, in one place: revoked or unknown → refused, deleted → refused, inactive → forbidden.
 * `stale` only ever comes from a cache.
 */
export function outcomeOf (record: UserRecord, identity: Identity, from: UserOutcome['from'], cachedAtMs: number): SessionOutcome {
  if (record.kind === 'active') return isRevoked(record, identity) ? revoked : userOutcome(record, from, cachedAtMs, false)
  return record.kind === 'inactive' ? inactive : gone
}

/** Not enumerable: an outcome that a handler sends as JSON must not carry what a driver wrote into its error. */
function withCause<T extends object> (outcome: T, cause: unknown): Readonly<T & { cause: unknown }> {
  return Object.freeze(Object.defineProperty(outcome, 'cause', { value: cause }) as T & { cause: unknown })
}
