import { errors } from '../errors.js'
import type { Unresolved } from '../session-outcome.js'
import type { Refusal } from './refusal.js'

/**
 * A refusal as an error for Fastify's error handler: with `statusCode`, `code` and `headers`, which the default handler sends. For a defect it
 * is ORI_SESSION_RESOLUTION_FAILED with the cause.
 */
export function refusalError ({ status, headers, problem }: Refusal, outcome: Unresolved): Error {
  const error = outcome.kind === 'failed' ? new errors.ResolutionFailed({ cause: outcome.cause }) : new Error(problem.detail)
  return Object.assign(error, { statusCode: status, code: problem.code, headers })
}
