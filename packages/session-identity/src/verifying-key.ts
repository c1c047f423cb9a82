import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto'
import { algorithmsOfKind, asymmetricAlgorithms, type Algorithm } from './algorithm.js'

/** A key that tokens are verified with. */
export interface VerifyingKey {
  readonly kind: 'key'
  /** False once the issuer has withdrawn the key, or where its word counts only once: tokens that it verified count no longer. */
  trusted: boolean
}

/** A key of a JWK set. */
export interface PublishedKey extends VerifyingKey {
  readonly kid: string | undefined
  /** The algorithms that it may verify: its own `alg`, else those allowed, else the ones of its type and curve. */
  readonly algorithms: readonly Algorithm[]
  readonly publicKey: KeyObject
  /** All that was published about the key: when anything changes it is another key. */
  readonly fingerprint: string
}

type Jwk = Readonly<Record<string, unknown>>

/** Most entries of a set that is believed: what a set costs to read, and a token with a `kid` that many keys share. */
const maxKeys = 100

/** Bounds of an RSA modulus, in bits: below it is too weak (RFC 7518, section 3.3), above it makes each verification slow. */
const minModulusBits = 2048
const maxModulusBits = 8192

/** Curves that tokens are signed on, as Node.js names them. */
const curves: readonly unknown[] = ['prime256v1', 'secp384r1', 'secp521r1']

/** Parts of a key that only its owner may know, and that of a shared secret (RFC 7518, section 6). */
const secretParts = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/** Operations that belong to a key for signatures (RFC 7517, section 4.3). */
const signatureOperations: readonly unknown[] = ['sign', 'verify']

/**
 * Reads a JWK set (RFC 7517, section 5). A member that is null counts as absent. Entries that cannot verify signatures (other
 * types, uses, operations and curves, weak, symmetric and private keys) are left out. A key that was known before keeps its object,
 * and with it the tokens that it verified.
 *
 * @param allowed - algorithms that keys without an `alg` may verify. Default is null: those of their type and curve
 * @returns null when the document is not a JWK set, holds more than 100 entries or no usable key: that is a fault of whoever sent it,
 *   not a withdrawal
 */
export function readKeySet (
  document: unknown, known: readonly PublishedKey[], allowed: readonly Algorithm[] | null = null
): readonly PublishedKey[] | null {
  if (typeof document !== 'object' || document === null) return null
  const entries = (document as { keys?: unknown }).keys
  if (!Array.isArray(entries) || entries.length > maxKeys) return null
  const keys = entries.flatMap(entry => publishedKey(entry, known, allowed) ?? [])
  return keys.length === 0 ? null : keys
}

/** The keys that a token may have been signed with: those of its `kid`; without one the only key there is. */
export function keysFor (kid: string | undefined, keys: readonly PublishedKey[]): readonly PublishedKey[] {
  if (kid === undefined) return keys.length === 1 ? keys : []
  return keys.filter(key => key.kid === kid)
}

function publishedKey (entry: unknown, known: readonly PublishedKey[], allowed: readonly Algorithm[] | null): PublishedKey | null {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return null
  const members = Object.entries(entry).filter(([, value]) => value !== null)
  const jwk: Jwk = Object.fromEntries(members)
  if (!isForSignatures(jwk)) return null
  const fingerprint = JSON.stringify(members.sort(([one], [other]) => one < other ? -1 : 1))
  const same = known.find(key => key.fingerprint === fingerprint)
  if (same !== undefined) return same
  const publicKey = soundKey(jwk)
  if (publicKey === null) return null
  const { kid, alg } = jwk as { kid?: string, alg?: Algorithm }
  const algorithms = alg === undefined ? allowed ?? algorithmsOfKind(jwk) : [alg]
  return { kind: 'key', trusted: true, kid, algorithms, publicKey, fingerprint }
}

/** Whether nothing that is said of the key forbids to verify signatures with it. */
function isForSignatures (jwk: Jwk): boolean {
  const { kid, use, alg, key_ops: operations } = jwk as Partial<Record<'kid' | 'use' | 'alg' | 'key_ops', unknown>>
  return (kid === undefined || typeof kid === 'string') &&
    (use === undefined || use === 'sig') &&
    (alg === undefined || asymmetricAlgorithms.some(known => known === alg)) &&
    (operations === undefined || allowVerifying(operations, use !== undefined)) &&
    !secretParts.some(part => Object.hasOwn(jwk, part))
}

/** Whether operations without duplicates include `verify` and, beside `use: sig`, agree with it (RFC 7517, section 4.3). */
function allowVerifying (operations: unknown, besideUse: boolean): boolean {
  return Array.isArray(operations) && operations.includes('verify') && new Set(operations).size === operations.length &&
    (!besideUse || operations.every(operation => signatureOperations.includes(operation)))
}

/** The key, when it is one at all, of a kind and strength that can vouch for a token. */
function soundKey ({ kty, crv, n, e, x, y }: Jwk): KeyObject | null {
  try {
    const key = createPublicKey({ key: { kty, crv, n, e, x, y } as JsonWebKey, format: 'jwk' })
    const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
    const { modulusLength = 0, publicExponent = 0n, namedCurve } = details!
    const isSound = type === 'rsa'
      ? modulusLength >= minModulusBits && modulusLength <= maxModulusBits && publicExponent < 2n ** 64n
      : type === 'ed25519' || (type === 'ec' && curves.includes(namedCurve))
    return isSound ? key : null
  } catch {
    return null
  }
}
