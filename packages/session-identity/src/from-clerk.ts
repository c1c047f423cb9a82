import { anonymous, readOptions, refused, unavailable, type RefusedOutcome, type Unresolved } from '@orientor/session-contract/core'
import { claimOptionRules, claimRulesOf, type ClaimOptions } from './claim-options.js'
import { claimsFlaw, headerFlaw, isPending, type ClaimRules } from './claims.js'
import { readCredentials } from './credentials.js'
import { crossSiteOrigin, isCookieCounted } from './cross-site.js'
import { errors, retryAfterMs } from './errors.js'
import type { IdentifiableRequest, Identify } from './identify.js'
import { identityOfClaims } from './identity-of-claims.js'
import { owner } from './owner.js'
import { parseToken } from './parsed-token.js'

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
export type GetClerkAuth = (request: IdentifiableRequest) => ClerkAuth

/** What `fromClerk()` demands of a session besides what `@clerk/fastify` checks. Times are in milliseconds. */
export interface FromClerkOptions extends ClaimOptions {}

const notAccepted: RefusedOutcome = refused('invalid_token', 'The token was not accepted by Clerk')

/** Reasons of `@clerk/backend` that say nothing of the token: its keys could not be had. */
const outages: readonly unknown[] = [
  'jwk-remote-failed-to-load', 'jwk-remote-invalid', 'jwk-remote-missing', 'jwk-local-missing', 'jwk-failed-to-resolve', 'secret-key-invalid', 'unexpected-error'
]

/**
 * Identifies requests by the application's own `@clerk/fastify`, which must be registered before every session plugin and with
 * `hookName: 'onRequest'`. Which token counts and whether it is good is Clerk's decision; the form of a token in the header, and the claims
 * of any, are held to the rules of this package too, so that a token that never expires or is of another issuer is refused.
 *
 * A request without a session of this Clerk instance is anonymous, and so is one whose session is pending, whose cookies Clerk does not accept, or whose
 * cookies another site may have made the browser send (unless its `Origin` is one of `authorizedParties`). A bearer token that is not accepted is
 * `invalid_token`; a malformed or repeated `Authorization` header is refused whatever else was sent. When Clerk's keys cannot be had the outcome is `unavailable`.
 *
 * @param getAuth - of `@clerk/fastify`
 * @throws ORI_CONTRACT_INVALID_OPTION
 * @example app.register(sessionIdentity, { identify: fromClerk(getAuth, { issuer: 'https://clerk.example.com' }) })
 */
export function fromClerk (getAuth: GetClerkAuth, options: FromClerkOptions = {}): Identify {
  const { clock, ...given } = readOptions(`${owner}: fromClerk()`, options, claimOptionRules)
  const rules = claimRulesOf(given.issuer, { ...given, provider: given.provider ?? 'clerk' }, given, null)
  const updatedAtClaim = given.updatedAtClaim ?? null

  return request => {
    const credentials = readCredentials(request.raw.headers, request.raw.rawHeaders, '__session')
    const isBearer = typeof credentials === 'string'
    const tokens = isBearer ? [credentials] : 'kind' in credentials ? [] : credentials
    if (!isBearer && 'kind' in credentials && credentials.kind === 'refused') return credentials
    const malformed = isBearer ? formFlaw(credentials, rules) : null
    if (malformed !== null) return malformed
    // Clerk reads two headers in another way: where the scheme is spelt differently it takes the cookie, and a word alone for a token.
    const { authorization = '' } = request.raw.headers
    if (isBearer && authorization !== `Bearer ${credentials}`) return notAccepted
    if (!isBearer && authorization !== '' && !authorization.includes(' ')) return anonymous
    const { auth } = request as { auth?: unknown }
    if (auth === undefined || auth === null) throw new errors.ClerkTooLate()
    if (!isBearer && !isCookieCounted(crossSiteOrigin(request), rules.authorizedParties)) return anonymous
    const refusal = (outcome: RefusedOutcome): Unresolved => isBearer ? outcome : anonymous
    const { sessionClaims, sessionStatus, debug } = getAuth(request)
    if (typeof sessionClaims === 'object' && sessionClaims !== null) {
      // The claims belong to Clerk and the application: what is frozen is a copy.
      const claims = structuredClone(sessionClaims) as Record<string, unknown>
      const flaw = claimsFlaw(claims, rules, clock.now(), rules.provider === 'clerk')
      if (flaw !== null) return refusal(refused('invalid_token', flaw))
      return isPending(claims) ? anonymous : identityOfClaims(claims, rules, updatedAtClaim)
    }
    if (sessionStatus === 'pending' || tokens.length === 0) return anonymous
    const { reason } = Object(debug?.()) as { reason?: unknown }
    if (outages.includes(reason) && tokens.some(token => formFlaw(token, rules) === null)) return unavailable(retryAfterMs, new errors.KeysUnavailable('Clerk', String(reason)))
    return refusal(notAccepted)
  }
}

/** Judged here as well: what is malformed can make `@clerk/backend` fail as if its keys could not be had. */
function formFlaw (text: string, rules: ClaimRules): RefusedOutcome | null {
  const token = parseToken(text)
  if (token.kind === 'refused') return token
  const flaw = headerFlaw(token.header, rules)
  return flaw === null ? null : refused('invalid_token', flaw)
}
