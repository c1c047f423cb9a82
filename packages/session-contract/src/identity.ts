import { deepFreeze } from './deep-freeze.js'
import { sessionKey, type SessionKey } from './session-key.js'

/** A verified token, built once per token by createIdentity() and shared by the requests that carry it. Frozen but for `memo`. */
export interface Identity {
  readonly kind: 'identity'
  readonly key: SessionKey
  readonly issuer: string
  readonly subject: string
  /** `sid` of the token, or null when it has none. */
  readonly sessionId: string | null
  /** `iat` in milliseconds since the epoch; null when the app's own verifier does not tell. */
  readonly issuedAtMs: number | null
  /** When the provider last changed the user, from a claim the app configured, in milliseconds; a hint, or null. */
  readonly providerUpdatedAt: number | null
  /** The verified claims, deep-frozen. */
  readonly claims: Readonly<Record<string, unknown>>
  /** Where a resolver may remember what it found for this token. */
  readonly memo: { entry: unknown }
}

/** What createIdentity() is told; what is left out is null (claims: none). */
export interface IdentityParts {
  readonly issuer: string
  readonly subject: string
  readonly sessionId?: string | null
  readonly issuedAtMs?: number | null
  readonly providerUpdatedAt?: number | null
  readonly claims?: Record<string, unknown>
}

/**
 * Builds the identity of a token that has been verified. Freezes the claims it is given.
 *
 * @throws ORI_CONTRACT_INVALID_SESSION_KEY when issuer or subject cannot name a user
 */
export function createIdentity (parts: IdentityParts): Identity {
  return Object.freeze<Identity>({
    kind: 'identity',
    key: sessionKey(parts.issuer, parts.subject),
    issuer: parts.issuer,
    subject: parts.subject,
    sessionId: parts.sessionId ?? null,
    issuedAtMs: parts.issuedAtMs ?? null,
    providerUpdatedAt: parts.providerUpdatedAt ?? null,
    claims: deepFreeze(parts.claims ?? {}),
    memo: { entry: null }
  })
}
