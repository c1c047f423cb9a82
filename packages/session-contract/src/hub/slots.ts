import type { FastifyRequest } from 'fastify'
import type { Sync } from '../component.js'
import type { Identity } from '../identity.js'
import type { RouteSession } from '../route-session.js'
import type { SessionOutcome, Unresolved } from '../session-outcome.js'
import type { UserSource } from '../user-source.js'

/** Who decides what. One owner each per scope; an explicit plugin option wins over a slot. */
export interface Slots {
  /**
   * Request → verified identity, or the outcome of a request without one. What it throws becomes an outcome as outcomeOfThrown() says: an error
   * with a status from 400 to 499 is a refusal, any other a defect.
   */
  readonly identify?: (request: FastifyRequest, route: RouteSession) => Sync<Identity | Unresolved>
  /** Identity → outcome: the user, or why there is none. Without it the hub asks the source. */
  readonly resolve?: (identity: Identity, route: RouteSession) => Sync<SessionOutcome>
  /** Where users come from. */
  readonly source?: UserSource
}
