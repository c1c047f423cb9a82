import { anonymous, listOf, oneOf, optional, readOptions, refused, SourceUnavailable, text, unavailable, type Identity, type RefusedOutcome, type Unresolved } from '@orientor/session-contract/core'
import { asymmetricAlgorithms, symmetricAlgorithms, type Algorithm, type SymmetricAlgorithm } from './algorithm.js'
import { readToken } from './bearer-token.js'
import { claimOptionRules, claimRulesOf, type ClaimOptions } from './claim-options.js'
import { claimsFlaw, headerFlaw, isPending } from './claims.js'
import { errors } from './errors.js'
import type { IdentifiableRequest, Identify } from './identify.js'
import { identityOfClaims } from './identity-of-claims.js'
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
 * rules for form, header and claims of this package are applied to first. `exp` may be missing unless `@fastify/jwt` requires it.
 *
 * A request without credentials is anonymous; a malformed or repeated `Authorization` header is refused whatever else was sent. A token
 * that `@fastify/jwt` refuses, or any error with a status from 400 to 499, is `invalid_token`; anything else that goes wrong, such as a
 * `secret` function whose key server is down, is `unavailable`.
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
  const rules = claimRulesOf(given, { algorithms: given.algorithms, expiryRequired: false })
  const updatedAtClaim = given.updatedAtClaim ?? null
  const method = given.jwtVerify ?? (namespace === undefined ? 'jwtVerify' : `${namespace}JwtVerify`)
  const decorator = namespace === undefined ? 'jwt' : `jwt.${namespace}`

  return request => {
    const header = readToken(request.raw.headers, request.raw.rawHeaders, null)
    if (typeof header === 'object' && header.kind === 'refused') return header
    const { jwt } = request.server as { jwt?: object }
    const lookup = (namespace === undefined ? jwt : (jwt as Record<string, unknown> | undefined)?.[namespace]) as Partial<TokenLookup> | undefined
    const verify = (request as unknown as Record<string, unknown>)[method]
    if (typeof lookup?.lookupToken !== 'function' || typeof verify !== 'function') throw new errors.NoJwt(decorator, method)

    let found: unknown
    try {
      found = lookup.lookupToken(request)
    } catch (error) {
      return withoutToken(error)
    }
    const token = typeof found === 'string' ? parseToken(found) : unreadable
    if (token.kind === 'refused') return token
    const { claims } = token
    const flaw = headerFlaw(token.header, rules) ?? claimsFlaw(claims, rules, given.clock.now())
    if (flaw !== null) return refused('invalid_token', flaw)
    return settle(verify.call(request) as Promise<unknown>, () => isPending(claims) ? anonymous : identityOfClaims(claims, updatedAtClaim))
  }
}

async function settle (verified: Promise<unknown>, accept: () => Identity | Unresolved): Promise<Identity | Unresolved> {
  try {
    await verified
  } catch (error) {
    return withoutProof(error)
  }
  return accept()
}

/** Nothing was sent, or nothing that `@fastify/jwt` can read. */
function withoutToken (error: unknown): Unresolved {
  const code = codeOf(error)
  if (code === 'FST_JWT_NO_AUTHORIZATION_IN_HEADER' || code === 'FST_JWT_NO_AUTHORIZATION_IN_COOKIE') return anonymous
  return unreadable
}

function withoutProof (error: unknown): Unresolved {
  if (error instanceof SourceUnavailable) return unavailable(error.retryAfterMs, error)
  const { statusCode } = Object(error) as { statusCode?: unknown }
  const isVerdict = /^FA?ST_JWT_/.test(codeOf(error)) || (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500)
  if (isVerdict) return notAccepted
  return unavailable(retryAfterMs, Object.assign(new errors.AppVerifierFailed(error instanceof Error ? error.name : typeof error), { cause: error }))
}

function codeOf (error: unknown): string {
  const { code } = Object(error) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
