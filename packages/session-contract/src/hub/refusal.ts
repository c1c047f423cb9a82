import type { Unresolved } from '../session-outcome.js'

/** An answer other than the route's own: status, headers and a problem document (RFC 9457). */
export interface Refusal {
  readonly status: 400 | 401 | 403 | 503
  readonly headers: Readonly<Record<string, string>>
  readonly problem: Readonly<{ type: 'about:blank', title: string, status: number, detail: string, code: string }>
}

const realm = 'Bearer realm="session"'

/**
 * What an outcome without a user means to a client, or null where the request may go on. The challenge follows RFC 6750, section 3:
 * no error code when no credentials were sent. The answer never holds a value of the token.
 *
 * @param required - whether the route needs a user
 */
export function refusalOf (outcome: Unresolved, required: boolean): Refusal | null {
  switch (outcome.kind) {
    case 'identified': return null
    case 'anonymous': return required ? unauthenticated : null
    case 'forbidden': return required ? inactive : null
    case 'unavailable': return required ? unavailable(outcome.retryAfterMs) : null
    case 'refused': return outcome.error === 'invalid_request'
      ? refusal(400, 'Bad Request', 'ORI_SESSION_INVALID_REQUEST', outcome.description, challenge('invalid_request', outcome.description))
      : refusal(401, 'Unauthorized', 'ORI_SESSION_INVALID_TOKEN', outcome.description, challenge('invalid_token', outcome.description))
  }
}

const unauthenticated = refusal(401, 'Unauthorized', 'ORI_SESSION_REQUIRED', 'This route needs a session; send a bearer token', { 'www-authenticate': realm })
const inactive = refusal(403, 'Forbidden', 'ORI_SESSION_INACTIVE', 'The user is not active', {})

function unavailable (retryAfterMs: number): Refusal {
  const seconds = Math.max(1, Math.ceil(retryAfterMs / 1000))
  return refusal(503, 'Service Unavailable', 'ORI_SESSION_UNAVAILABLE', 'The session cannot be checked right now', { 'retry-after': String(seconds) })
}

function challenge (error: string, description: string): Record<string, string> {
  return { 'www-authenticate': `${realm}, error="${error}", error_description="${description.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, '')}"` }
}

function refusal (status: Refusal['status'], title: string, code: string, detail: string, headers: Record<string, string>): Refusal {
  return Object.freeze({
    status,
    headers: Object.freeze({ 'cache-control': 'no-store', ...headers }),
    problem: Object.freeze({ type: 'about:blank', title, status, detail, code })
  })
}
