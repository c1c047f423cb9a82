import { errors } from '../errors.js'
import type { SessionOutcome } from '../session-outcome.js'
import type { Refusal } from './refusal.js'

/**
 * A refusal as an error for Fastify's error handler: with `statusCode`, `code` and `headers`, which the default handler sends. For a defect it
 * is ORI_SESSION_RESOLUTION_FAILED with the cause, where no handler that spreads the error or writes it as JSON takes it along.
 */
export function refusalError ({ status, headers, problem }: Refusal, outcome: SessionOutcome): Error {
  const error = outcome.kind === 'failed' ? new errors.ResolutionFailed({ cause: outcome.cause }) : new Error(problem.detail)
  if (outcome.kind === 'failed') Object.defineProperty(error, 'cause', { value: outcome.cause, enumerable: false })
  // The headers are a copy: a handler may add its own.
  return Object.assign(error, { statusCode: status, code: problem.code, headers: { ...headers } })
}
