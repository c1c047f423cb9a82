import type { IncomingHttpHeaders } from 'node:http'
import { anonymous, refused, type AnonymousOutcome, type RefusedOutcome } from '@orientor/session-contract/core'

const twice: RefusedOutcome = refused('invalid_request', 'More than one Authorization header was sent')
const unreadable: RefusedOutcome = refused('invalid_request', 'The Authorization header is malformed')

const bearer = 'Bearer '
/** A scheme, and what follows it after one space or more: `1*SP` (RFC 6750, section 2.1; RFC 9110, section 11.4). */
const credentials = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +(.*))?$/s
const suffixLength = 8
const suffix = /^[A-Za-z0-9_-]{8}$/
/** Three parts of base64url: the only form of a token, and most cookies of other uses have another. */
const tokenForm = /^[\w-]+\.[\w-]+\.[\w-]+$/

/** The bearer token of a request; the tokens in its session cookies, at least one; or the outcome of a request without either. */
export type Credentials = string | readonly string[] | AnonymousOutcome | RefusedOutcome

/**
 * The credentials of a request: the token of the `Authorization` header (RFC 6750, section 2.1), or the tokens in session cookies when there is no
 * such header, an empty one, or one of another scheme. The scheme's case does not matter. A header that is malformed or was sent twice is refused,
 * and the cookies are then not looked at. Query and body are never read.
 *
 * A bearer token is a deliberate credential: if it is bad, so is the request. A cookie is an ambient one, which the browser adds whether the page means
 * it or not, and other sites and apps may have set it: of its name, and of its name with `_` and eight characters, as Clerk writes it, every
 * value counts that has the form of a token, each once, in the order of the header.
 *
 * @param rawHeaders - names and values in turn as they were received: Node.js drops a second `Authorization` line from `headers`
 * @param cookieName - null: cookies are not read
 */
export function readCredentials (headers: IncomingHttpHeaders, rawHeaders: readonly string[], cookieName: string | null): Credentials {
  const header = headers.authorization
  if (header === undefined) return fromCookies(headers.cookie, cookieName)
  if (countOfAuthorization(rawHeaders) > 1) return twice
  if (header.startsWith(bearer) && header.charCodeAt(bearer.length) > 0x20) return header.slice(bearer.length)
  if (header.trim() === '') return fromCookies(headers.cookie, cookieName)
  const match = credentials.exec(header)
  if (match === null) return unreadable
  if (match[1]!.toLowerCase() !== 'bearer') return fromCookies(headers.cookie, cookieName)
  return match[2] === undefined || match[2] === '' ? unreadable : match[2]
}

function countOfAuthorization (rawHeaders: readonly string[]): number {
  let count = 0
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!
    if (name.length === 13 && name.toLowerCase() === 'authorization') count++
  }
  return count
}

/** Values are taken as they are: no character of a token needs quotes or percent-encoding. */
function fromCookies (header: string | undefined, name: string | null): readonly string[] | AnonymousOutcome {
  if (name === null || header === undefined) return anonymous
  const tokens = new Set<string>()
  for (const pair of header.split(';')) {
    const at = pair.indexOf('=')
    const key = pair.slice(0, at < 0 ? 0 : at).trim()
    if (!key.startsWith(name)) continue
    const isSuffixed = key.length === name.length + 1 + suffixLength && key[name.length] === '_' && suffix.test(key.slice(-suffixLength))
    const value = pair.slice(at + 1).trim()
    if ((key.length === name.length || isSuffixed) && tokenForm.test(value)) tokens.add(value)
  }
  return tokens.size === 0 ? anonymous : [...tokens]
}
