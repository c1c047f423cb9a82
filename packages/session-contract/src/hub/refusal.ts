import type { RefuseRule } from '../hub-options.js'
import { problemDocument, type ProblemDocument } from '../problem-document.js'
import type { RefusedOutcome, SessionOutcome, UserOutcome } from '../session-outcome.js'

/** The codes by which a client tells refusals apart: `code` of the problem document, or of the error. */
export type RefusalCode =
  'ORI_SESSION_REQUIRED' | 'ORI_SESSION_INVALID_REQUEST' | 'ORI_SESSION_INVALID_TOKEN' | 'ORI_SESSION_REFUSED' |
  'ORI_SESSION_INACTIVE' | 'ORI_SESSION_UNAVAILABLE' | 'ORI_SESSION_RESOLUTION_FAILED'

/** An answer other than the route's own: status, headers and a problem document (RFC 9457). */
export interface Refusal {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly problem: ProblemDocument<RefusalCode>
}

const realm = 'Bearer realm="session"'

/**
 * What an outcome without a user means to a client, or null where the request may go on. The challenge follows RFC 6750, section 3:
 * no error code when no credentials were sent. The answer never holds a value of the token.
 *
 * @param required - whether the route needs a user
 * @param refuse - whether a route that needs none refuses bad credentials all the same
 */
export function refusalOf (outcome: Exclude<SessionOutcome, UserOutcome>, required: boolean, refuse: RefuseRule): Refusal | null {
  if (!required && !(refuse === 'always' && outcome.kind === 'refused')) return null
  switch (outcome.kind) {
    case 'identified': return null
    case 'anonymous': return unauthenticated
    case 'forbidden': return inactive
    case 'unavailable': return unavailable(outcome.retryAfterMs)
    case 'failed': return defective
    case 'refused': return refusedCredentials(outcome)
  }
}

const unauthenticated = refusal(401, 'ORI_SESSION_REQUIRED', 'This route needs a session; send a bearer token', { 'www-authenticate': realm })
const inactive = refusal(403, 'ORI_SESSION_INACTIVE', 'The user is not active', {})
const defective = refusal(500, 'ORI_SESSION_RESOLUTION_FAILED', 'The session could not be resolved because of a defect', {})

function unavailable (retryAfterMs: number): Refusal {
  const seconds = Math.max(1, Math.ceil(retryAfterMs / 1000))
  return refusal(503, 'ORI_SESSION_UNAVAILABLE', 'The session cannot be checked right now', { 'retry-after': String(seconds) })
}

function refusedCredentials (outcome: RefusedOutcome): Refusal {
  const { error, description } = outcome
  switch (error) {
    case 'invalid_request': return refusal(400, 'ORI_SESSION_INVALID_REQUEST', description, challenge(error, description))
    case 'invalid_token': return refusal(401, 'ORI_SESSION_INVALID_TOKEN', description, challenge(error, description))
    case null: return refusal(outcome.status, 'ORI_SESSION_REFUSED', description, {})
  }
}

function challenge (error: string, description: string): Record<string, string> {
  return { 'www-authenticate': `${realm}, error="${error}", error_description="${description.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, '')}"` }
}

function refusal (status: number, code: RefusalCode, detail: string, headers: Record<string, string>): Refusal {
  return Object.freeze({
    status,
    headers: Object.freeze({ 'cache-control': 'no-store', ...headers }),
    problem: problemDocument(status, code, detail)
  })
}
