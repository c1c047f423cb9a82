/** The asymmetric signature algorithms that can be allowed (RFC 7518, section 3; RFC 8037; RFC 9864). */
export const asymmetricAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'] as const

/** Name of an asymmetric signature algorithm. */
export type Algorithm = typeof asymmetricAlgorithms[number]

/** Algorithms with a shared secret: only where the application verifies by itself. */
export const symmetricAlgorithms = ['HS256', 'HS384', 'HS512'] as const

/** Name of a symmetric signature algorithm. */
export type SymmetricAlgorithm = typeof symmetricAlgorithms[number]

/** What keys of a curve sign with: each has one algorithm, or two names of it (RFC 7518, section 3.4; RFC 9864, section 2.2). */
const byCurve: ReadonlyMap<unknown, readonly Algorithm[]> = new Map<unknown, readonly Algorithm[]>([
  ['P-256', ['ES256']], ['P-384', ['ES384']], ['P-521', ['ES512']], ['Ed25519', ['EdDSA', 'Ed25519']]
])

/** What an OpenID Provider signs with unless it says otherwise (OpenID Connect Dynamic Client Registration 1.0, section 2). */
const rsaDefault: readonly Algorithm[] = ['RS256']

/** The algorithms that a public key without an `alg` may verify, by its type and curve: RS256 for RSA. */
export function algorithmsOfKind ({ kty, crv }: { readonly kty?: unknown, readonly crv?: unknown }): readonly Algorithm[] {
  return kty === 'RSA' ? rsaDefault : byCurve.get(crv) ?? []
}
