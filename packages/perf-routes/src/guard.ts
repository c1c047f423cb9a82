import type { Sync } from '@orientor/session-contract/core'
import { errors } from './errors.js'

/** Whether a request may use the routes: true lets it in, anything else does not. Made by adminKey(), or by the app. */
export interface Authorize<Request> {
  (request: Request): Sync<boolean>
  /** Sent as `WWW-Authenticate` with a refusal, which is then a 401 instead of a 403. */
  readonly challenge?: string
}

/**
 * Lets a request pass or throws. Fails closed: a rule that throws, or answers something that is not `true`, lets nobody in.
 *
 * @throws ORI_PERF_UNAUTHORIZED when the rule has a challenge, else ORI_PERF_FORBIDDEN; ORI_PERF_AUTHORIZE_FAILED when the rule throws
 */
export async function guard<Request> (authorize: Authorize<Request>, request: Request): Promise<void> {
  let verdict: unknown
  try {
    verdict = await authorize(request)
  } catch (cause) {
    throw new errors.AuthorizeFailed({ cause })
  }
  if (verdict !== true) throw authorize.challenge === undefined ? new errors.Forbidden() : new errors.Unauthorized()
}
