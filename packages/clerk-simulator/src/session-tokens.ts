import { randomBytes } from 'node:crypto'
import type { ClerkSession } from './session-directory.js'
import type { SigningKey } from './signing-key.js'
import type { SimulatorClock } from './simulator-clock.js'

/** What a token can be given that differs from the usual. */
export interface TokenOptions {
  /** From `iat` to `exp`, in seconds; negative for a token that is expired already. Default is 60. */
  readonly lifetimeSeconds?: number
  /** The `kid` of the header. Default is that of the key that signs; the key stays the same. */
  readonly kid?: string
  /** Claims to add or to replace; a claim of value undefined is left out of the token. */
  readonly claims?: Readonly<Record<string, unknown>>
}

/** The parts of a JWS header that Clerk adds to `alg` and `typ`. */
export interface TokenHeader {
  readonly kid: string
  readonly cat: string
}

/** Signs the claims with RS256 by this private key. */
export type SignClaims = (claims: Readonly<Record<string, unknown>>, header: TokenHeader, privatePem: string) => string

/** Who signs for whom. */
export interface TokenIssuer {
  readonly issuer: string
  readonly authorizedParty: string
  readonly key: SigningKey
}

/** The `cat` of session tokens; template and machine tokens have others. */
export const sessionTokenCategory = 'cl_B7d4PD111AAA'

const defaultLifetimeSeconds = 60
const notBeforeLeadSeconds = 10

/** Makes session tokens of version 2 for a session. */
export class SessionTokens {
  readonly #clock: SimulatorClock
  readonly #sign: SignClaims

  constructor (clock: SimulatorClock, sign: SignClaims) {
    this.#clock = clock
    this.#sign = sign
  }

  mint ({ issuer, authorizedParty, key }: TokenIssuer, session: ClerkSession, options: TokenOptions): string {
    const now = this.#clock.now()
    const iat = Math.floor(now / 1000)
    const claims = {
      azp: authorizedParty,
      exp: iat + (options.lifetimeSeconds ?? defaultLifetimeSeconds),
      fva: [Math.max(0, Math.floor((now - session.created_at) / 60_000)), -1],
      iat,
      iss: issuer,
      jti: randomBytes(10).toString('hex'),
      nbf: iat - notBeforeLeadSeconds,
      sid: session.id,
      sts: 'active',
      sub: session.user_id,
      v: 2,
      ...options.claims
    }
    return this.#sign(claims, { kid: options.kid ?? key.kid, cat: sessionTokenCategory }, key.privatePem)
  }
}
