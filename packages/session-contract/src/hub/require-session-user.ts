import type { FastifyRequest } from 'fastify'
import { errors } from '../errors.js'
import type { SessionUser } from '../user.js'
import { refusalError } from './refusal-error.js'
import { refusalOf } from './refusal.js'

/**
 * The guarantee inside a handler: the user of this request, whatever `config.session` of the route says and wherever the route stands.
 *
 * @throws an error with the status, code and headers of the outcome (400, 401, 403, 500 or 503), which Fastify's error handler sends;
 *   ORI_SESSION_NO_RESOLVER (500) when no plugin in scope resolves users
 */
export function requireSessionUser (request: FastifyRequest): SessionUser {
  // Without any plugin in scope there is no decorator at all.
  const outcome = request.sessionOutcome as typeof request.sessionOutcome | undefined
  if (outcome === undefined || outcome === null) throw new errors.NoResolver()
  if (outcome.kind === 'user') return outcome.user
  const refusal = refusalOf(outcome, true, 'required')
  throw refusal === null ? new errors.NoResolver() : refusalError(refusal, outcome)
}
