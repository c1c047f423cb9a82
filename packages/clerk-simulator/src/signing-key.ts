import { createPublicKey, generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'

/** One entry of a JWKS. */
export interface PublicJwk {
  readonly use: 'sig'
  readonly kty: 'RSA'
  readonly alg: 'RS256'
  readonly kid: string
  readonly n: string
  readonly e: string
}

/** The key that signs session tokens. */
export interface SigningKey {
  /** The id of the instance: Clerk's `kid` is no name of its own. */
  readonly kid: string
  readonly publicPem: string
  readonly privatePem: string
  readonly jwks: { readonly keys: readonly PublicJwk[] }
}

const generate = promisify(generateKeyPair)

/** A new RSA key of 2048 bits. */
export async function createSigningKey (kid: string): Promise<SigningKey> {
  const { publicKey: publicPem, privateKey: privatePem } = await generate('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' }
  })
  const { n, e } = createPublicKey(publicPem).export({ format: 'jwk' }) as { n: string, e: string }
  return { kid, publicPem, privatePem, jwks: { keys: [{ use: 'sig', kty: 'RSA', alg: 'RS256', kid, n, e }] } }
}
