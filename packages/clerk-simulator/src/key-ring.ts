import { notFound } from './clerk-error.js'
import { createSigningKey, type PublicJwk, type SigningKey } from './signing-key.js'

/** How a new key takes over. */
export interface RotationInput {
  /** `kid` of the new key; may be the one that is in use. Default is a new id. */
  readonly kid?: string
  /** Whether the keys so far stay published, so that their tokens still count. Default is true. */
  readonly overlap?: boolean
}

/** The keys of an instance: one that signs, and those that are published. */
export class KeyRing {
  #current: SigningKey
  #published: readonly SigningKey[]

  constructor (key: SigningKey) {
    this.#current = key
    this.#published = [key]
  }

  /** The key that signs. */
  get current (): SigningKey {
    return this.#current
  }

  /** The public keys, the newest first. */
  get jwks (): { readonly keys: readonly PublicJwk[] } {
    return { keys: this.#published.flatMap(({ jwks }) => jwks.keys) }
  }

  /** Makes a key, publishes it, and signs with it from now on. */
  async rotate (kid: string, overlap: boolean): Promise<void> {
    this.#current = await createSigningKey(kid)
    this.#published = overlap ? [this.#current, ...this.#published] : [this.#current]
  }

  /** Publishes the key no longer; tokens are signed as before. @throws ClerkError 404 when there is no such key */
  withdraw (kid: string): void {
    const kept = this.#published.filter(key => key.kid !== kid)
    if (kept.length === this.#published.length) throw notFound('key', kid)
    this.#published = kept
  }
}
