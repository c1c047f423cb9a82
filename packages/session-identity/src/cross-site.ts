import type { IdentifiableRequest } from './identify.js'

/** Methods that change nothing (RFC 9110, section 9.2.1). */
const safeMethods: readonly string[] = ['GET', 'HEAD', 'OPTIONS', 'TRACE']

/**
 * The origin of a request that a page of another site may have made the browser send in the user's name: on such a request a cookie proves
 * nothing. An unsafe method or the opening of a WebSocket, whose `Sec-Fetch-Site` is neither `same-origin` nor `none` (Fetch Metadata Request Headers, W3C) or,
 * where the browser does not send that header, whose `Origin` differs from the host. `request.host` is what Fastify takes for it: behind a proxy
 * that rewrites the host, set `trustProxy`.
 *
 * @returns null for any other request, such as one that no browser made; empty when the browser hides the origin
 */
export function crossSiteOrigin (request: IdentifiableRequest): string | null {
  const { headers } = request.raw
  if (safeMethods.includes(request.method) && !isWebSocket(headers.upgrade)) return null
  const site = headers['sec-fetch-site']
  const { origin } = headers
  if (site !== undefined) return site === 'same-origin' || site === 'none' ? null : origin ?? ''
  return origin === undefined || isOf(origin, request.host) ? null : origin
}

/**
 * Whether a cookie counts on a request.
 *
 * @param origin - as crossSiteOrigin() has it
 * @param trustedOrigins - whose pages may send requests in the user's name; null: none but the host's own
 */
export function isCookieCounted (origin: string | null, trustedOrigins: readonly string[] | null): boolean {
  return origin === null || trustedOrigins?.includes(origin) === true
}

function isWebSocket (upgrade: string | undefined): boolean {
  return upgrade !== undefined && upgrade.toLowerCase().includes('websocket')
}

/** An origin without its default port, as browsers write it, against a host that may name it. */
function isOf (origin: string, host: string): boolean {
  if (!URL.canParse(origin)) return false
  const { protocol, host: ours } = new URL(origin)
  return ours !== '' && URL.canParse(`${protocol}//${host}`) && ours === new URL(`${protocol}//${host}`).host
}
