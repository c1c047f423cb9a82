import { anonymous, readOptions, refused, unavailable, type RefusedOutcome, type Unresolved } from '@orientor/session-contract/core'
import type { FastifyRequest } from 'fastify'
import { readToken } from './bearer-token.js'
import { claimOptionRules, claimRulesOf, type ClaimOptions } from './claim-options.js'
import { claimsFlaw, isPending } from './claims.js'
import { errors } from './errors.js'
import type { Identify } from './identify.js'
import { identityOfClaims } from './identity-of-claims.js'
import { owner } from './owner.js'

/** The part of what `getAuth()` of `@clerk/fastify` returns that is used. */
export interface ClerkAuth {
  /** The verified claims of a session token; null when nobody is signed in. */
  readonly sessionClaims: unknown
  /** Null, `active` or `pending`. */
  readonly sessionStatus?: unknown
  /** Why nobody is signed in is among what it tells. */
  readonly debug?: () => unknown
}

/** `getAuth` of `@clerk/fastify`. */
export type GetClerkAuth = (request: FastifyRequest) => ClerkAuth

/** What `fromClerk()` demands of a session besides what `@clerk/fastify` checks. Times are in milliseconds. */
export interface FromClerkOptions extends ClaimOptions {}

const notAccepted: RefusedOutcome = refused('invalid_token', 'The token was not accepted by Clerk')

/** Reasons of `@clerk/backend` that say nothing of the token: its keys could not be had. */
const outages: readonly unknown[] = [
  'jwk-remote-failed-to-load', 'jwk-remote-invalid', 'jwk-remote-missing', 'jwk-local-missing', 'jwk-failed-to-resolve', 'secret-key-invalid', 'unexpected-error'
]

/** How long a client is asked to wait when Clerk's keys cannot be had, in milliseconds. */
const retryAfterMs = 5000

/**
 * Identifies requests by the application's own `@clerk/fastify`, which must be registered before every session plugin and with
 * `hookName: 'onRequest'`. Which token counts and whether it is good is Clerk's decision; the claims are then held to the rules of this
 * package too, so that a token that never expires or is of another issuer is refused.
 *
 * Nobody signed in is anonymous when no session token was sent or the session is pending, `unavailable` when Clerk's keys could not be
 * had, else `invalid_token`. A malformed or repeated `Authorization` header is refused whatever else was sent.
 *
 * @param getAuth - of `@clerk/fastify`
 * @throws ORI_CONTRACT_INVALID_OPTION
 * @example app.register(sessionIdentity, { identify: fromClerk(getAuth, { issuer: 'https://clerk.example.com' }) })
 */
export function fromClerk (getAuth: GetClerkAuth, options: FromClerkOptions = {}): Identify {
  const { clock, ...given } = readOptions(`${owner}: fromClerk()`, options, claimOptionRules)
  const rules = claimRulesOf({ ...given, clock }, { algorithms: undefined, expiryRequired: true })
  const updatedAtClaim = given.updatedAtClaim ?? null

  return request => {
    const token = readToken(request.raw.headers, request.raw.rawHeaders, '__session')
    if (typeof token === 'object' && token.kind === 'refused' && request.raw.headers.authorization !== undefined) return token
    const { auth } = request as { auth?: unknown }
    if (auth === undefined || auth === null) throw new errors.ClerkTooLate()
    const { sessionClaims, sessionStatus, debug } = getAuth(request)
    if (typeof sessionClaims !== 'object' || sessionClaims === null) return sessionStatus === 'pending' ? anonymous : signedOut(token, debug)
    // The claims belong to Clerk and the application: what is frozen is a copy.
    const claims = structuredClone(sessionClaims) as Record<string, unknown>
    const flaw = claimsFlaw(claims, rules, clock.now())
    if (flaw !== null) return refused('invalid_token', flaw)
    return isPending(claims) ? anonymous : identityOfClaims(claims, updatedAtClaim)
  }
}

function signedOut (token: ReturnType<typeof readToken>, debug: ClerkAuth['debug']): Unresolved {
  const { reason } = Object(debug?.()) as { reason?: unknown }
  if (outages.includes(reason)) return unavailable(retryAfterMs, new errors.KeysUnavailable('Clerk', String(reason)))
  return typeof token === 'object' && token.kind === 'anonymous' ? anonymous : notAccepted
}
