import { createVerifier } from 'fast-jwt'
import type { World } from '../contender.js'

/** What the peers that keep users read of a token. */
export interface Claims {
  readonly sub: string
}

/** Header → claims, by fast-jwt with its cache of verified tokens; synchronous. @throws for a token that is not good */
export function claimsReader ({ publicKey, issuer, users }: World): (authorization: string | undefined) => Claims {
  const verify = createVerifier({ key: publicKey, algorithms: ['RS256'], allowedIss: issuer, cache: 2 * users })
  return authorization => {
    if (authorization?.startsWith('Bearer ') !== true) throw Object.assign(new Error('There is no token'), { statusCode: 401 })
    return verify(authorization.slice('Bearer '.length)) as Claims
  }
}
