import type { FastifyRequest } from 'fastify'
import { errors } from '../errors.js'
import type { SessionUser } from '../user.js'
import { refusalOf } from './refusal.js'

/**
 * The guarantee inside a handler: the user of this request.
 *
 * @throws an error with the status, code and headers of the outcome (400, 401, 403 or 503), which Fastify's error handler sends;
 *   ORI_SESSION_NO_RESOLVER (500) when no plugin in scope resolves users
 */
export function requireSessionUser (request: FastifyRequest): SessionUser {
  // Without any plugin in scope there is no decorator at all.
  const outcome = request.sessionOutcome as typeof request.sessionOutcome | undefined
  if (outcome === undefined || outcome === null) throw new errors.NoResolver()
  if (outcome.kind === 'user') return outcome.user
  const refusal = refusalOf(outcome, true)
  if (refusal === null) throw new errors.NoResolver()
  throw Object.assign(new Error(refusal.problem.detail), { statusCode: refusal.status, code: refusal.problem.code, headers: refusal.headers })
}
