import { compactVerify } from 'jose'
import { refused, type RefusedOutcome, type Sync, type UnavailableOutcome } from '@orientor/session-contract/core'
import type { Algorithm } from './algorithm.js'
import type { JwksSource, Patience } from './jwks-source.js'
import type { ParsedToken } from './parsed-token.js'
import { UndecidedTokens } from './undecided-tokens.js'
import { keysFor, type PublishedKey, type VerifyingKey } from './verifying-key.js'

/** Begins the check of the tokens that one request carries, which all came at this moment. */
export type SignatureCheck = () => SignerOf

/** Says who signed a token: a key, or why that is not known. Never throws for what a token holds. */
export type SignerOf = (token: ParsedToken, patience: Patience) => Sync<VerifyingKey | RefusedOutcome | UnavailableOutcome>

const unknownKey: RefusedOutcome = refused('invalid_token', 'The key of the token is not known')
const badSignature: RefusedOutcome = refused('invalid_token', 'The signature of the token is not valid')
const notAccepted: RefusedOutcome = refused('invalid_token', 'The token was not accepted by the verifier of the application')

/**
 * Checks signatures with the issuer's published keys. A token that none of them signed, be its `kid` unknown or not, as an issuer
 * may rotate under the same `kid`, is refused only once a load that began after it first came has brought no key that did; until
 * then, and as long as there are no keys, the answer is `unavailable`: the token may be good.
 */
export function checkByJwks (source: JwksSource): SignatureCheck {
  const signerAmong = sharedCheck()
  const undecided = new UndecidedTokens()
  return () => {
    const arrival = source.arrival()
    return async (token, patience) => {
      let checked: readonly PublishedKey[] | null = null
      let answer: PublishedKey | RefusedOutcome = unknownKey
      for (;;) {
        const { keys } = source
        if (keys !== checked) {
          checked = keys
          answer = await signerAmong(keys, token)
          if (answer.kind === 'key') return answer
        } else if (source.isLoadedSince(arrival)) {
          return answer
        } else {
          const first = undecided.firstArrivalOf(token.text)
          if (first !== undefined && source.isLoadedSince(first)) {
            source.refresh().catch(() => {}) // The key may be published since: the next try will see.
            return answer
          }
          const late = await source.waitForNewerKeys(arrival, patience)
          if (late !== null) {
            undecided.add(token.text, arrival)
            return late
          }
        }
      }
    }
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
  const signerOf: SignerOf = token => {
    try {
      const app = verifier()
      app.verify(token.text)
      return app.options?.verify?.maxAge === undefined ? lasting : once
    } catch {
      return notAccepted
    }
  }
  return () => signerOf
}

type SignerCheck = (keys: readonly PublishedKey[], token: ParsedToken) => Promise<PublishedKey | RefusedOutcome>

/** Checks a token that several requests carry at once only once per set of keys. */
function sharedCheck (): SignerCheck {
  const running = new Map<string, { readonly keys: readonly PublishedKey[], readonly answer: Promise<PublishedKey | RefusedOutcome> }>()
  return async (keys, token) => {
    const other = running.get(token.text)
    if (other?.keys === keys) return await other.answer
    const own = { keys, answer: signerAmong(keys, token) }
    running.set(token.text, own)
    try {
      return await own.answer
    } finally {
      if (running.get(token.text) === own) running.delete(token.text)
    }
  }
}

async function signerAmong (keys: readonly PublishedKey[], token: ParsedToken): Promise<PublishedKey | RefusedOutcome> {
  const { alg, kid } = token.header as { alg: Algorithm, kid?: string }
  const candidates = keysFor(kid, keys)
  for (const key of candidates) {
    if (!key.algorithms.includes(alg)) continue
    try {
      await compactVerify(token.text, key.publicKey)
    } catch {
      continue // Not signed with this key.
    }
    if (key.trusted) return key // It may have been withdrawn meanwhile.
  }
  return candidates.length === 0 ? unknownKey : badSignature
}
