import { createPublicKey, type JsonWebKeyInput } from 'node:crypto'
import { createLocalJWKSet, type JWK, type LocalJWKSet } from 'jose'
import { asymmetricAlgorithms } from './algorithm.js'

/** A key that tokens are verified with. */
export interface VerifyingKey {
  readonly kind: 'key'
  /** False once the issuer has withdrawn the key, or where its word counts only once: tokens that it verified count no longer. */
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

/** Most entries of a set that is believed: what a set costs to read, and a token with a `kid` that many keys share. */
const maxKeys = 100

/** Bounds of an RSA modulus, in bits: below it is too weak (RFC 7518, section 3.3), above it makes each verification slow. */
const minModulusBits = 2048
const maxModulusBits = 8192

/** Curves that tokens are signed on, as Node.js names them. */
const curves: readonly unknown[] = ['prime256v1', 'secp384r1', 'secp521r1']

/** Parts of a key that only its owner may know, and that of a shared secret (RFC 7518, section 6). */
const secretParts = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/**
 * Reads a JWK set (RFC 7517, section 5). Entries that cannot verify signatures (other types, uses and curves, weak, symmetric and
 * private keys) are left out. A key that was known before keeps its object, and with it the tokens that it verified.
 *
 * @returns null when the document is not a JWK set, holds more than 100 entries or no usable key: that is a fault of whoever sent it,
 *   not a withdrawal
 */
export function readKeySet (document: unknown, known: readonly PublishedKey[]): readonly PublishedKey[] | null {
  if (typeof document !== 'object' || document === null) return null
  const entries = (document as { keys?: unknown }).keys
  if (!Array.isArray(entries) || entries.length > maxKeys) return null
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
  const { kid, use, alg, key_ops: operations } = entry as Partial<Record<'kid' | 'use' | 'alg' | 'key_ops', unknown>>
  return (kid === undefined || typeof kid === 'string') &&
    (use === undefined || use === 'sig') &&
    (alg === undefined || asymmetricAlgorithms.some(known => known === alg)) &&
    (operations === undefined || (Array.isArray(operations) && operations.includes('verify'))) &&
    !secretParts.some(part => Object.hasOwn(entry, part)) &&
    isSoundKey(entry)
}

/** Whether it is a key at all, of a kind and strength that can vouch for a token. */
function isSoundKey (jwk: object): boolean {
  try {
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = createPublicKey({ key: jwk as JsonWebKeyInput['key'], format: 'jwk' })
    if (type === 'rsa') return details!.modulusLength! >= minModulusBits && details!.modulusLength! <= maxModulusBits && details!.publicExponent! < 2n ** 64n
    return type === 'ed25519' || (type === 'ec' && curves.includes(details!.namedCurve))
  } catch {
    return false
  }
}
