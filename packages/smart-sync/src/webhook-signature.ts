import { isUtf8 } from 'node:buffer'
import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Clock } from '@orientor/session-contract/core'
import { Webhook } from 'standardwebhooks'

/** The furthest that the timestamp of a webhook may lie from now, either way, in seconds. */
const toleranceSeconds = 300
const secretPrefix = 'whsec_'
const leastKeyBytes = 24

// A header that is sent twice is joined by a comma and a space: none of the three is then as it must be.
const idRule = /^[\x21-\x2d\x2f-\x7e]{1,256}$/
const timestampRule = /^[1-9]\d{0,11}$/
/** The first version of a signature: HMAC-SHA256 in base64. */
const signatureRule = /^v1,[A-Za-z0-9+/]{43}=$/
const signaturesRule = /^(?!.*, )[\x21-\x7e]+(?: [\x21-\x7e]+)*$/

interface SignedHeaders { readonly id: string, readonly timestamp: string, readonly signatures: string }

/** Whether a value is a secret of Standard Webhooks: `whsec_` and base64 of at least 24 bytes. */
export function isWebhookSecret (value: unknown): value is string {
  if (typeof value !== 'string' || !value.startsWith(secretPrefix)) return false
  const key = Buffer.from(value.slice(secretPrefix.length), 'base64')
  return key.length >= leastKeyBytes && value === secretPrefix + key.toString('base64')
}

/**
 * The check of the signatures of Standard Webhooks, which come from Svix: headers `svix-*` or `webhook-*`, one or more
 * secrets, any of which may have signed, and a timestamp that lies within five minutes of now.
 *
 * The signature is the library's, but not the check, which reads the number that a timestamp begins with, and the clock
 * of the system. The body must be UTF-8: the library signs it as text, and takes any other byte for U+FFFD.
 */
export class WebhookSignature {
  readonly #signers: readonly Webhook[]
  readonly #clock: Pick<Clock, 'now'>

  /** @param secrets - each of which isWebhookSecret() */
  constructor (secrets: readonly string[], clock: Pick<Clock, 'now'>) {
    this.#signers = secrets.map(secret => new Webhook(secret))
    this.#clock = clock
  }

  /** The reason why a webhook is not genuine, in words that hold nothing of it; null when it is. */
  flawOf (headers: IncomingHttpHeaders, body: Buffer): string | null {
    const signed = signedHeaders(headers, 'svix') ?? signedHeaders(headers, 'webhook')
    if (signed === null) return 'its id, timestamp and signature are not there, each once, or malformed'
    const sentAtSeconds = Number(signed.timestamp)
    const nowSeconds = Math.floor(this.#clock.now() / 1000)
    if (Math.abs(nowSeconds - sentAtSeconds) > toleranceSeconds) return 'its timestamp is too far from now'
    if (!isUtf8(body)) return 'its body is not UTF-8'
    // The library's SHA-256 takes 10 ms for a MiB and secret: none is computed for what cannot match.
    const candidates = signed.signatures.split(' ').filter(candidate => signatureRule.test(candidate))
    if (candidates.length === 0) return 'its signature is of none of the secrets'
    const sentAt = new Date(sentAtSeconds * 1000)
    const isSigned = this.#signers.some(signer => {
      const expected = Buffer.from(signer.sign(signed.id, sentAt, body))
      return candidates.some(candidate => isSame(candidate, expected))
    })
    return isSigned ? null : 'its signature is of none of the secrets'
  }
}

/** The headers of one prefix; null unless all three are there and well-formed. */
function signedHeaders (headers: IncomingHttpHeaders, prefix: 'svix' | 'webhook'): SignedHeaders | null {
  const id = matching(headers[`${prefix}-id`], idRule)
  const timestamp = matching(headers[`${prefix}-timestamp`], timestampRule)
  const signatures = matching(headers[`${prefix}-signature`], signaturesRule)
  return id === null || timestamp === null || signatures === null ? null : { id, timestamp, signatures }
}

function matching (value: string | readonly string[] | undefined, rule: RegExp): string | null {
  return typeof value === 'string' && rule.test(value) ? value : null
}

/** In a time that does not depend on where they differ. */
function isSame (candidate: string, expected: Buffer): boolean {
  return candidate.length === expected.length && timingSafeEqual(Buffer.from(candidate), expected)
}
