import { createIdentity, type Identity } from '@orientor/session-contract/core'
import { instantIn } from './claims.js'

/**
 * The identity that verified claims name; the claims are frozen.
 *
 * @param claims - without flaws: `iss` and `sub` name a user, `iat` is absent or a number
 * @param updatedAtClaim - path of the claim that says when the provider last changed the user; null: none
 */
export function identityOfClaims (claims: Record<string, unknown>, updatedAtClaim: readonly string[] | null): Identity {
  const { iss, sub, sid, iat } = claims as { iss: string, sub: string, sid?: unknown, iat?: number }
  return createIdentity({
    issuer: iss,
    subject: sub,
    sessionId: typeof sid === 'string' && sid !== '' ? sid : null,
    issuedAtMs: iat === undefined ? null : iat * 1000,
    providerUpdatedAt: updatedAtClaim === null ? null : instantIn(claims, updatedAtClaim),
    claims
  })
}
