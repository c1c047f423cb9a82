import { asSent } from './as-sent.js'
import type { Clock } from './clock.js'
import type { Deadline } from './deadline.js'
import type { Queryable } from './pool-like.js'
import type { TextRow } from './row-text.js'
import { SourceUnavailable } from './user-source.js'
import { withinDeadline } from './within-deadline.js'

/** A statement of a source. It must be idempotent: a pool may send it again when its connection is cut in flight. */
export interface SourceStatement {
  readonly text: string
  // node-postgres wants a mutable list, and does not change it.
  readonly values: unknown[]
  /** Prepared once per connection under this name. Left out: not prepared under a name. */
  readonly name?: string
}

/**
 * Sends a statement of a source, and answers with its rows as the texts that the server sent.
 *
 * @param pool - asked for the pool when there is time left to send; may throw
 * @param what - begins the message, such as "The users table"
 * @throws SourceUnavailable when no time is left, or no answer came by the deadline; else what the driver throws
 */
export async function sendStatement (
  pool: () => Queryable, statement: SourceStatement, deadline: Deadline, clock: Clock, what: string
): Promise<readonly TextRow[]> {
  const leftMs = Math.ceil(deadline.atMs - clock.monotonic())
  if (leftMs <= 0 || deadline.signal.aborted) throw new SourceUnavailable(`${what} was not asked: no time is left`)
  const sent = pool().query({ ...statement, types: asSent, query_timeout: leftMs, deadline, idempotent: true })
  return (await withinDeadline(sent, deadline, what)).rows as readonly TextRow[]
}
