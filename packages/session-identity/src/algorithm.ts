/** The asymmetric signature algorithms that can be allowed (RFC 7518, section 3; RFC 8037; RFC 9864). */
export const asymmetricAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'] as const

/** Name of an asymmetric signature algorithm. */
export type Algorithm = typeof asymmetricAlgorithms[number]

/** Algorithms with a shared secret: only where the application verifies by itself. */
export const symmetricAlgorithms = ['HS256', 'HS384', 'HS512'] as const

/** Name of a symmetric signature algorithm. */
export type SymmetricAlgorithm = typeof symmetricAlgorithms[number]
