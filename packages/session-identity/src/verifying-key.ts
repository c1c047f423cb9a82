import { createLocalJWKSet, type JWK, type LocalJWKSet } from 'jose'

/** A key that tokens are verified with. */
export interface VerifyingKey {
  readonly kind: 'key'
  /** False once the issuer has withdrawn the key: tokens that it verified count no longer. */
  trusted: boolean
}

/** A key of a JWK set. */
export interface PublishedKey extends VerifyingKey {
  readonly kid: string | undefined
  /** All that was published about the key: when anything changes it is another key. */
  readonly fingerprint: string
  /** Checks use, operations, type, curve and algorithm against a token's header, and imports the key once. */
  readonly resolve: LocalJWKSet
}

const keyTypes: readonly unknown[] = ['RSA', 'EC', 'OKP']

/**
 * Reads a JWK set (RFC 7517, section 5). Entries that cannot verify signatures (other types and uses, symmetric and private keys) are
 * left out. A key that was known before keeps its object, and with it the tokens that it verified.
 *
 * @returns null when the document is not a JWK set or holds no usable key: that is a fault of whoever sent it, not a withdrawal
 */
export function readKeySet (document: unknown, known: readonly PublishedKey[]): readonly PublishedKey[] | null {
  if (typeof document !== 'object' || document === null) return null
  const entries = (document as { keys?: unknown }).keys
  if (!Array.isArray(entries)) return null
  const keys = entries.filter(isUsable).map(jwk => {
    const fingerprint = JSON.stringify(Object.entries(jwk).sort(([one], [other]) => one < other ? -1 : 1))
    return known.find(key => key.fingerprint === fingerprint) ?? publishedKey(jwk, fingerprint)
  })
  return keys.length === 0 ? null : keys
}

/** The keys that a token may have been signed with: those of its `kid`; without one the only key there is. */
export function keysFor (kid: string | undefined, keys: readonly PublishedKey[]): readonly PublishedKey[] {
  if (kid === undefined) return keys.length === 1 ? keys : []
  return keys.filter(key => key.kid === kid)
}

function publishedKey (jwk: JWK, fingerprint: string): PublishedKey {
  return { kind: 'key', trusted: true, kid: jwk.kid, fingerprint, resolve: createLocalJWKSet({ keys: [jwk] }) }
}

function isUsable (entry: unknown): entry is JWK {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return false
  const { kty, kid, use, d } = entry as Record<'kty' | 'kid' | 'use' | 'd', unknown>
  return keyTypes.includes(kty) && (kid === undefined || typeof kid === 'string') && (use === undefined || use === 'sig') && d === undefined
}
