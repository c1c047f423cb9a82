import type { IncomingHttpHeaders } from 'node:http'
import { anonymous, refused, type AnonymousOutcome, type RefusedOutcome } from '@orientor/session-contract/core'

const twice: RefusedOutcome = refused('invalid_request', 'More than one Authorization header was sent')
const unreadable: RefusedOutcome = refused('invalid_request', 'The Authorization header is malformed')
const ambiguous: RefusedOutcome = refused('invalid_request', 'More than one session cookie was sent')

const bearer = 'Bearer '
/** A scheme, and what follows it after one space or more: `1*SP` (RFC 6750, section 2.1; RFC 9110, section 11.4). */
const credentials = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?: +(.*))?$/s
const suffixLength = 8
const suffix = /^[A-Za-z0-9_-]{8}$/

/**
 * The token of a request: from the `Authorization` header (RFC 6750, section 2.1), or from the session cookie when there is no such
 * header. The scheme's case does not matter. A request without credentials, or with another scheme, is anonymous; a header that is
 * malformed or was sent twice is refused, and the cookie is then not looked at. Query and body are never read.
 *
 * The cookie is the one of exactly this name or, when there is none, the one whose name continues with `_` and eight characters,
 * as Clerk writes it. Two different values are refused: nobody can tell which one the user means.
 *
 * @param rawHeaders - names and values in turn as they were received: Node.js drops a second `Authorization` line from `headers`
 * @param cookieName - null: cookies are not read
 */
export function readToken (headers: IncomingHttpHeaders, rawHeaders: readonly string[], cookieName: string | null): string | AnonymousOutcome | RefusedOutcome {
  const header = headers.authorization
  if (header === undefined) {
    const cookie = headers.cookie
    return cookieName === null || cookie === undefined ? anonymous : fromCookie(cookie, cookieName)
  }
  if (countOfAuthorization(rawHeaders) > 1) return twice
  if (header.startsWith(bearer) && header.charCodeAt(bearer.length) > 0x20) return header.slice(bearer.length)
  const match = credentials.exec(header)
  if (match === null) return unreadable
  if (match[1]!.toLowerCase() !== 'bearer') return anonymous
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
function fromCookie (header: string, name: string): string | AnonymousOutcome | RefusedOutcome {
  let exact: string | null = null
  let suffixed: string | null = null
  let suffixedTwice = false
  for (const pair of header.split(';')) {
    const at = pair.indexOf('=')
    const key = pair.slice(0, at < 0 ? 0 : at).trim()
    if (!key.startsWith(name)) continue
    const value = pair.slice(at + 1).trim()
    if (value === '') continue
    if (key.length === name.length) {
      if (exact !== null && exact !== value) return ambiguous
      exact = value
    } else if (key.length === name.length + 1 + suffixLength && key[name.length] === '_' && suffix.test(key.slice(-suffixLength))) {
      suffixedTwice ||= suffixed !== null && suffixed !== value
      suffixed = value
    }
  }
  return exact ?? (suffixedTwice ? ambiguous : suffixed ?? anonymous)
}
