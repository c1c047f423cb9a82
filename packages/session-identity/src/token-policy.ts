import type { ClaimRules } from './claims.js'
import { errors } from './errors.js'
import { JwksSource } from './jwks-source.js'
import type { ResolvedSessionIdentityOptions } from './options.js'
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
  const { fetch, lookup, clock } = options
  const policies = options.issuers.map(({ rules, keys }): TokenPolicy => {
    if (keys === null) return { rules, signature: checkByApp(appVerifier) }
    const source = new JwksSource({ ...keys, fetch, lookup, clock })
    sources.push(source)
    return { rules, signature: checkByJwks(source) }
  })
  return { policies, sources }
}

function noVerifier (): never {
  throw new errors.NoVerifier()
}
