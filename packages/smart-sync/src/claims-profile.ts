import { cleanText } from './clean-text.js'
import type { ObservedProfile } from './observation.js'

/** Which claims of a token say what; of several names the first that the token has counts. */
export interface ClaimNames {
  readonly email: readonly string[]
  readonly firstName: readonly string[]
  readonly lastName: readonly string[]
  /** When the provider last changed the user, in any form `parseProviderTimestamp()` reads. */
  readonly updatedAt: readonly string[]
}

/** The names of OpenID Connect Core 1.0, section 5.1, and the usual ones of custom claims. */
export const defaultClaimNames: ClaimNames = Object.freeze({
  email: ['email'],
  firstName: ['given_name', 'first_name'],
  lastName: ['family_name', 'last_name'],
  updatedAt: ['updated_at', 'updatedAt']
})

/** The profile that a token's claims tell: partial, since a claim that is left out says nothing. */
export function profileOfClaims (claims: Readonly<Record<string, unknown>>, names: ClaimNames): ObservedProfile {
  return {
    email: cleanText(claimOf(claims, names.email)),
    firstName: cleanText(claimOf(claims, names.firstName)),
    lastName: cleanText(claimOf(claims, names.lastName)),
    blocked: false,
    data: null
  }
}

/** The first of these claims that the token has and that is not null; undefined when there is none. */
export function claimOf (claims: Readonly<Record<string, unknown>>, names: readonly string[]): unknown {
  for (const name of names) {
    if (Object.hasOwn(claims, name) && claims[name] !== null) return claims[name]
  }
  return undefined
}
