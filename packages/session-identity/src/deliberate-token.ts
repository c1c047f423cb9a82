import type { IdentifiableRequest } from './identify.js'

/**
 * Whether a client sent this token deliberately: it can be seen in a header other than `Cookie`, or in the URL. Any other came in a cookie, as it is,
 * encoded, or out of a session that a cookie names, and the browser may have added that by itself.
 */
export function isDeliberate (token: string, { raw: { rawHeaders, url } }: IdentifiableRequest): boolean {
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]!.toLowerCase() !== 'cookie' && rawHeaders[at + 1]!.includes(token)) return true
  }
  return url?.includes(token) === true
}
