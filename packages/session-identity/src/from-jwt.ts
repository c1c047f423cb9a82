import { anonymous, listOf, oneOf, optional, outcomeOfThrown, readOptions, refused, text, unavailable, type RefusedOutcome, type Unresolved } from '@orientor/session-contract/core'
import { asymmetricAlgorithms, symmetricAlgorithms, type Algorithm, type SymmetricAlgorithm } from './algorithm.js'
import { readToken } from './bearer-token.js'
import { claimOptionRules, claimRulesOf, type ClaimOptions } from './claim-options.js'
import { isOfClerk, isPending, tokenFlaw } from './claims.js'
import { isCrossSite } from './cross-site.js'
import { errors } from './errors.js'
import type { IdentifiableRequest, Identify } from './identify.js'
import { identityOfClaims } from './identity-of-claims.js'
import { isVerdict, isWithoutCredentials } from './jwt-error.js'
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

const notAccepted: RefusedOutcome = refused('invalid_token', 'The token was not accepted by the verifier of the application')
const unreadable: RefusedOutcome = refused('invalid_request', 'The credentials cannot be read')

/** How long a client is asked to wait when the application's verifier failed, in milliseconds. */
const retryAfterMs = 5000

/**
 * Identifies requests by the application's own `@fastify/jwt`: by `request.jwtVerify()`, with all that it is configured for (secrets that
 * are functions, `trusted`, `extractToken`, cookies, a namespace), so also where `verify: 'fastify-jwt'` cannot. Its price: the token is
 * verified at each request. `request.user` is set as `jwtVerify()` sets it; the identity comes from the token's own claims, which the
 * rules for form, header and claims of this package are applied to first. For tokens of the application's own, such as `sign({ id })`, give
 * `subject` and a constant `issuer`.
 *
 * A request without credentials is anonymous; a malformed or repeated `Authorization` header is refused whatever else was sent. A token
 * that `@fastify/jwt` refuses is `invalid_token`, an error with a status from 400 to 499 a refusal with that status; anything else that goes wrong,
 * such as a `secret` function whose key server is down, is `unavailable`. A token that came in a cookie is no credentials where it is refused, and on
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
    const { headers, rawHeaders } = request.raw
    const header = readToken(headers, rawHeaders, null)
    if (typeof header === 'object' && 'kind' in header && header.kind === 'refused') return header
    const { jwt } = request.server as { jwt?: object }
    const lookup = (namespace === undefined ? jwt : (jwt as Record<string, unknown> | undefined)?.[namespace]) as Partial<TokenLookup> | undefined
    const verify = (request as unknown as Record<string, unknown>)[method]
    if (typeof lookup?.lookupToken !== 'function' || typeof verify !== 'function') throw new errors.NoJwt(decorator, method)

    let found: unknown
    try {
      found = lookup.lookupToken(request)
    } catch (error) {
      return isWithoutCredentials(error) ? anonymous : unreadable
    }
    const isCookie = typeof found === 'string' && found !== header && headers.cookie?.includes(found) === true
    if (isCookie && isCrossSite(request, rules.authorizedParties)) return anonymous
    const refusal = (outcome: RefusedOutcome): Unresolved => isCookie ? anonymous : outcome
    const token = typeof found === 'string' ? parseToken(found) : unreadable
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

function withoutProof (error: unknown): Unresolved {
  if (isVerdict(error)) return notAccepted
  const outcome = outcomeOfThrown(error)
  if (outcome.kind !== 'failed') return outcome
  return unavailable(retryAfterMs, Object.assign(new errors.AppVerifierFailed(error instanceof Error ? error.name : typeof error), { cause: error }))
}
