import { compactVerify } from 'jose'
import { refused, unavailable, type RefusedOutcome, type Sync, type UnavailableOutcome } from '@orientor/session-contract/core'
import type { JwksSource } from './jwks-source.js'
import type { ParsedToken } from './parsed-token.js'
import { keysFor, type PublishedKey, type VerifyingKey } from './verifying-key.js'

/** Says who signed a token: a key, or why that is not known. Never throws for what a token holds. */
export type SignatureCheck = (token: ParsedToken) => Sync<VerifyingKey | RefusedOutcome | UnavailableOutcome>

const unknownKey: RefusedOutcome = refused('invalid_token', 'The key of the token is not known')
const badSignature: RefusedOutcome = refused('invalid_token', 'The signature of the token is not valid')
const notAccepted: RefusedOutcome = refused('invalid_token', 'The token was not accepted by the verifier of the application')

/**
 * Checks signatures with the issuer's published keys. An unknown key, or a known one that does not fit, asks for newer keys once, as an
 * issuer may rotate under the same `kid`. Without any keys the answer is `unavailable`: the token may be good.
 */
export function checkByJwks (source: JwksSource): SignatureCheck {
  return async token => {
    if (source.keys.length === 0) await source.refresh()
    const keys = source.keys
    if (keys.length === 0) return unavailable(source.retryAfterMs, source.failure)
    const answer = await signerAmong(keys, token)
    if (answer.kind === 'key') return answer
    await source.refresh()
    return source.keys === keys ? answer : await signerAmong(source.keys, token)
  }
}

/** The part of `fastify.jwt` (`@fastify/jwt`) that is used. */
export interface AppVerifier {
  verify (token: string): unknown
  readonly options?: { readonly verify?: { readonly maxAge?: unknown } }
}

/**
 * Leaves the signature, and whatever else it is configured for, to the application's own verifier, which is looked up at first use. Where that has a
 * `maxAge`, what it accepts now it may refuse a moment later, before the token expires: then its word counts once.
 */
export function checkByApp (verifier: () => AppVerifier): SignatureCheck {
  const lasting: VerifyingKey = { kind: 'key', trusted: true }
  const once: VerifyingKey = { kind: 'key', trusted: false }
  return token => {
    try {
      const app = verifier()
      app.verify(token.text)
      return app.options?.verify?.maxAge === undefined ? lasting : once
    } catch {
      return notAccepted
    }
  }
}

async function signerAmong (keys: readonly PublishedKey[], token: ParsedToken): Promise<PublishedKey | RefusedOutcome> {
  const candidates = keysFor(token.header['kid'] as string | undefined, keys)
  for (const key of candidates) {
    try {
      await compactVerify(token.text, key.resolve)
    } catch {
      // Not signed with this key, or the key is of no use for this algorithm: either way it vouches for nothing.
      continue
    }
    if (key.trusted) return key // It may have been withdrawn meanwhile.
  }
  return candidates.length === 0 ? unknownKey : badSignature
}
