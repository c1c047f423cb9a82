import { failed, refused, unavailable, type FailedOutcome, type RefusedOutcome, type UnavailableOutcome } from './session-outcome.js'
import { SourceUnavailable } from './user-source.js'

const unreadable = refused('invalid_request', 'The credentials cannot be read')
const notAccepted = refused('invalid_token', 'The credentials are not accepted')

/**
 * The outcome of a request whose authentication threw. An error with a `statusCode` (or `status`) from 400 to 499, as Fastify's plugins throw
 * for what a client sent, is a refusal with that status; its message stays out of the answer, as it may hold a value of the token.
 * SourceUnavailable is `unavailable`. Anything else is a defect.
 */
export function outcomeOfThrown (error: unknown): RefusedOutcome | UnavailableOutcome | FailedOutcome {
  if (error instanceof SourceUnavailable) return unavailable(error.retryAfterMs, error)
  const { statusCode, status = statusCode } = Object(error) as { statusCode?: unknown, status?: unknown }
  const code = Number.isInteger(statusCode) ? statusCode as number : status as number
  if (!Number.isInteger(code) || code < 400 || code > 499) return failed(error)
  if (code === 400) return unreadable
  return code === 401 ? notAccepted : Object.freeze({ ...notAccepted, error: null, status: code })
}
