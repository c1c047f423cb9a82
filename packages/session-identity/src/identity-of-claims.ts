import { createIdentity, type Identity } from '@orientor/session-contract/core'
import { instantIn, issuerOf, subjectOf, type ClaimRules } from './claims.js'

/**
 * The identity that verified claims name; the claims are frozen.
 *
 * @param claims - without flaws by the rules: issuer and subject are acceptable, `iat` is absent or a number
 * @param updatedAtClaim - path of the claim that says when the provider last changed the user; null: none
 */
export function identityOfClaims (claims: Record<string, unknown>, rules: ClaimRules, updatedAtClaim: readonly string[] | null): Identity {
  const { sid, iat } = claims as { sid?: unknown, iat?: number }
  return createIdentity({
    issuer: issuerOf(claims, rules)!,
    subject: subjectOf(claims, rules)!,
    sessionId: typeof sid === 'string' && sid !== '' ? sid : null,
    issuedAtMs: iat === undefined ? null : iat * 1000,
    providerUpdatedAt: updatedAtClaim === null ? null : instantIn(claims, updatedAtClaim),
    claims
  })
}
