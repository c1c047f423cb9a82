import { asymmetricAlgorithms } from './algorithm.js'
import type { ClaimRules } from './claims.js'
import { errors } from './errors.js'
import { JwksSource } from './jwks-source.js'
import type { ResolvedIssuer, ResolvedSessionIdentityOptions } from './options.js'
import { checkByApp, checkByJwks, type AppVerifier, type SignatureCheck } from './signature-check.js'

/** What the tokens of one issuer are held to. */
export interface TokenPolicy {
  readonly rules: ClaimRules
  readonly signature: SignatureCheck
}

/** Policies, and the sources of their keys: one per issuer, so that no issuer's key ever vouches for a token of another. */
export interface TrustedIssuers {
  readonly policies: readonly TokenPolicy[]
  readonly sources: readonly JwksSource[]
}

/**
 * What resolved options say about tokens: with `verify: 'jwks'` one policy and one key source per issuer, with `'fastify-jwt'` one
 * policy and no source. The sources are to be closed by whoever asked for them.
 *
 * @param appVerifier - the application's verifier, looked up at first use; needed with `verify: 'fastify-jwt'` only
 */
export function trustedIssuers (options: ResolvedSessionIdentityOptions, appVerifier: () => AppVerifier = noVerifier): TrustedIssuers {
  const sources: JwksSource[] = []
  const policies = options.issuers.map((trusted): TokenPolicy => {
    if (trusted.keys === null) return { rules: rulesOf(trusted, options, false), signature: checkByApp(appVerifier) }
    const { keys: location, algorithms } = trusted
    const { fetch, lookup, clock } = options
    const source = new JwksSource({ location, algorithms, fetch, lookup, clock })
    sources.push(source)
    // Which algorithm goes with which key is for the key to say; a shared secret goes with none.
    return { rules: rulesOf({ ...trusted, algorithms: algorithms ?? asymmetricAlgorithms }, options, true), signature: checkByJwks(source) }
  })
  return { policies, sources }
}

function rulesOf ({ issuer, audience, authorizedParties, algorithms }: ResolvedIssuer, { clockToleranceMs, maxTokenLifetimeMs }: ResolvedSessionIdentityOptions, expiryRequired: boolean): ClaimRules {
  return { issuer, audience, authorizedParties, algorithms, expiryRequired, clockToleranceMs, maxTokenLifetimeMs }
}

function noVerifier (): never {
  throw new errors.NoVerifier()
}
