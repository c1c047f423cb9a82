import {
  failed, refused, refusedByStatus, unavailable, type FailedOutcome, type RefusedOutcome, type UnavailableOutcome
} from './session-outcome.js'
import { SourceUnavailable } from './user-source.js'

/** Credentials that the application's own authentication cannot read. */
export const unreadableCredentials: RefusedOutcome = refused('invalid_request', 'The credentials cannot be read')
/** Credentials that the application's own authentication does not accept. */
export const unacceptedCredentials: RefusedOutcome = refused('invalid_token', 'The credentials are not accepted')

/**
 * The outcome of a request whose authentication threw. An error with a `statusCode` (or `status`) from 400 to 499, as Fastify's
 * plugins throw for what a client sent, is a refusal with that status; its message stays out of the answer, as it may hold a value
 * of the token. SourceUnavailable is `unavailable`. Anything else is a defect.
 */
export function outcomeOfThrown (error: unknown): RefusedOutcome | UnavailableOutcome | FailedOutcome {
  if (error instanceof SourceUnavailable) return unavailable(error.retryAfterMs, error)
  const code = statusOf(error)
  if (code === undefined || code < 400 || code > 499) return failed(error)
  if (code === 400) return unreadableCredentials
  return code === 401 ? unacceptedCredentials : refusedByStatus(code, unacceptedCredentials.description)
}

function statusOf (error: unknown): number | undefined {
  try {
    const { statusCode, status } = Object(error) as { statusCode?: unknown, status?: unknown }
    return [statusCode, status].find(Number.isInteger) as number | undefined
  } catch {
    return undefined // A getter that throws says nothing.
  }
}
