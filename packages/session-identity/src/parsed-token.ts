import { refused, type RefusedOutcome } from '@orientor/session-contract/core'

/** A token in its parts: well-formed, and nothing else is known of it. */
export interface ParsedToken {
  readonly kind: 'token'
  /** The token as it was sent. */
  readonly text: string
  readonly header: Readonly<Record<string, unknown>>
  readonly claims: Record<string, unknown>
}

/** Longest token that is looked at, in characters. */
export const maxTokenLength = 16_384

/** Deepest nesting of arrays and objects in a token: what freezes claims, and whoever reads them, may recurse. */
const maxNesting = 64

const b64token = /^[A-Za-z0-9\-._~+/]+=*$/
const tooLong: RefusedOutcome = refused('invalid_token', 'The token is too long')
/** What is not even a b64token (RFC 6750, section 2.1). */
export const notAToken: RefusedOutcome = refused('invalid_request', 'The credentials are not a bearer token')
const malformed: RefusedOutcome = refused('invalid_token', 'The token is malformed')

/**
 * Takes a signed token in compact form apart (RFC 7515, section 7.1). Strict, so that a token has one spelling only: three parts of
 * canonical base64url (no padding, no unused bits), well-formed UTF-8, and JSON objects in the first two.
 *
 * @returns the parts, or the refusal: `invalid_request` for what is not even a b64token (RFC 6750, section 2.1)
 */
export function parseToken (text: string): ParsedToken | RefusedOutcome {
  if (text.length > maxTokenLength) return tooLong
  if (!b64token.test(text)) return notAToken
  const parts = text.split('.')
  if (parts.length !== 3) return malformed
  const [header, claims, signature] = parts.map(decode) as [Buffer | null, Buffer | null, Buffer | null]
  if (header === null || claims === null || signature === null) return malformed
  const headerObject = objectIn(header)
  const claimsObject = objectIn(claims)
  if (headerObject === null || claimsObject === null) return malformed
  return { kind: 'token', text, header: headerObject, claims: claimsObject }
}

function decode (part: string): Buffer | null {
  const bytes = Buffer.from(part, 'base64url')
  return bytes.length > 0 && bytes.toString('base64url') === part ? bytes : null
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function objectIn (bytes: Buffer): Record<string, unknown> | null {
  let value: unknown
  try {
    value = JSON.parse(utf8.decode(bytes))
  } catch {
    return null
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) && isShallow(value, maxNesting) ? value as Record<string, unknown> : null
}

function isShallow (value: object, levels: number): boolean {
  if (levels === 0) return false
  for (const inner of Object.values(value)) {
    if (typeof inner === 'object' && inner !== null && !isShallow(inner, levels - 1)) return false
  }
  return true
}
