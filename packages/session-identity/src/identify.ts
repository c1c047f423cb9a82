import type { IncomingMessage } from 'node:http'
import type { Identity, RouteSession, Sync, Unresolved } from '@orientor/session-contract/core'

/**
 * The application's own way from a request to its identity. What it throws with a status from 400 to 499 is a refusal with that status;
 * anything else is a defect.
 */
export type Identify = (request: IdentifiableRequest, route: RouteSession) => Sync<Identity | Unresolved>

/**
 * The part of a request that is read. With the plugin it is the whole request of Fastify; the core type-checks where Fastify
 * is not installed.
 */
export interface IdentifiableRequest {
  readonly method: string
  readonly host: string
  readonly raw: IncomingMessage
}
