import {
  anonymous, listOf, oneOf, optional, readOptions, refused, text, unavailable, unreadableCredentials,
  type RefusedOutcome, type Unresolved
} from '@orientor/session-contract/core'
import { asymmetricAlgorithms, symmetricAlgorithms, type Algorithm, type SymmetricAlgorithm } from './algorithm.js'
import { claimOptionRules, claimRulesOf, type ClaimOptions } from './claim-options.js'
import { isOfClerk, isPending, tokenFlaw } from './claims.js'
import { readCredentials } from './credentials.js'
import { crossSiteOrigin, isCookieCounted } from './cross-site.js'
import { isDeliberate } from './deliberate-token.js'
import { errors, retryAfterMs } from './errors.js'
import type { IdentifiableRequest, Identify } from './identify.js'
import { identityOfClaims } from './identity-of-claims.js'
import { isWithoutCredentials, outcomeOfJwtError } from './jwt-error.js'
import { owner } from './owner.js'
import { parseToken } from './parsed-token.js'

/** What `fromJwt()` demands of a token besides what `@fastify/jwt` is configured for. Times are in milliseconds. */
export interface FromJwtOptions extends ClaimOptions {
  /** Accepted signature algorithms. Default: what `@fastify/jwt` accepts. */
  readonly algorithms?: ReadonlyArray<Algorithm | SymmetricAlgorithm>
  /** The `namespace` that `@fastify/jwt` was registered with. Default: none. */
  readonly namespace?: string
  /** Name of the method that verifies a request. Default is `jwtVerify`, or `<namespace>JwtVerify`. */
  readonly jwtVerify?: string
}

/** The part of `fastify.jwt` (`@fastify/jwt`) that is used. */
interface TokenLookup {
  lookupToken (request: IdentifiableRequest): unknown
}

/**
 * Identifies requests by the application's own `@fastify/jwt`: by `request.jwtVerify()`, with all that it is configured for (secrets that
 * are functions, `trusted`, `extractToken`, cookies, a namespace), so also where `verify: 'fastify-jwt'` cannot. Its price: the token is
 * verified at each request. `request.user` is set as `jwtVerify()` sets it; the identity comes from the token's own claims, which the
 * rules for form, header and claims of this package are applied to first. For tokens of the application's own, such as `sign({ id })`, give
 * `subject` and a constant `issuer`.
 *
 * A request without credentials is anonymous; a malformed or repeated `Authorization` header is refused whatever else was sent. A token
 * that `@fastify/jwt` refuses, and any error with a status from 400 to 499, is a refusal with that status; anything else that goes wrong,
 * such as a `secret` function whose key server is down, is `unavailable`. A token that cannot be seen in a header or in
 * the URL came in a cookie, or out of one: it is no credentials where it is refused, and on
 * a request that another site may have caused unless its `Origin` is one of `authorizedParties`.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION
 * @example app.register(sessionIdentity, { identify: fromJwt({ issuer: 'https://id.example.com' }) })
 */
export function fromJwt (options: FromJwtOptions = {}): Identify {
  const { namespace, ...given } = readOptions(`${owner}: fromJwt()`, options, {
    ...claimOptionRules,
    algorithms: optional(listOf(oneOf([...asymmetricAlgorithms, ...symmetricAlgorithms]), { min: 1 })),
    namespace: optional(text),
    jwtVerify: optional(text)
  })
  const rules = claimRulesOf(given.issuer, given, given, given.algorithms ?? null)
  const updatedAtClaim = given.updatedAtClaim ?? null
  const method = given.jwtVerify ?? (namespace === undefined ? 'jwtVerify' : `${namespace}JwtVerify`)
  const decorator = namespace === undefined ? 'jwt' : `jwt.${namespace}`

  return request => {
    const header = readCredentials(request.raw.headers, request.raw.rawHeaders, null)
    if (typeof header === 'object' && 'kind' in header && header.kind === 'refused') return header
    const { jwt } = request.server as { jwt?: object }
    const lookup = (namespace === undefined ? jwt : (jwt as Record<string, unknown> | undefined)?.[namespace]) as Partial<TokenLookup> | undefined
    const verify = (request as unknown as Record<string, unknown>)[method]
    if (typeof lookup?.lookupToken !== 'function' || typeof verify !== 'function') throw new errors.NoJwt(decorator, method)

    let found: unknown
    try {
      found = lookup.lookupToken(request)
    } catch (error) {
      return isWithoutCredentials(error) ? anonymous : unreadableCredentials
    }
    const isCookie = typeof found === 'string' && !isDeliberate(found, request)
    if (isCookie && !isCookieCounted(crossSiteOrigin(request), rules.authorizedParties)) return anonymous
    const refusal = (outcome: RefusedOutcome): Unresolved => isCookie ? anonymous : outcome
    const token = typeof found === 'string' ? parseToken(found) : unreadableCredentials
    if (token.kind === 'refused') return refusal(token)
    const flaw = tokenFlaw(token, rules, given.clock.now())
    if (flaw !== null) return refusal(refused('invalid_token', flaw))
    return (verify.call(request) as Promise<unknown>).then(
      () => isOfClerk(token.header, rules) && isPending(token.claims) ? anonymous : identityOfClaims(token.claims, rules, updatedAtClaim),
      (error: unknown) => {
        const outcome = withoutProof(error)
        return outcome.kind === 'refused' ? refusal(outcome) : outcome
      }
    )
  }
}

/** What is no verdict says nothing of the token, such as a `secret` function whose key server is down. */
function withoutProof (error: unknown): Unresolved {
  const outcome = outcomeOfJwtError(error)
  if (outcome.kind !== 'failed') return outcome
  const failure = new errors.AppVerifierFailed(error instanceof Error ? error.name : typeof error)
  return unavailable(retryAfterMs, Object.assign(failure, { cause: error }))
}
