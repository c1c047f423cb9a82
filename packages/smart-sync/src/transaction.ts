import {
  databaseFailureOf, sendStatement, withinDeadline, type Clock, type ClientLike, type Deadline, type PoolLike,
  type SourceStatement, type TextRow
} from '@orientor/session-contract/core'
import { acquireClient, forgetErrors } from './acquire-client.js'

/** The circumstances of a transaction. */
export interface TransactionScope {
  readonly pool: PoolLike
  readonly deadline: Deadline
  readonly clock: Clock
  /** Begins the message of an error, such as "The users table". */
  readonly what: string
}

/** The most connections that are closed because a transaction was left open on them. */
const maxLeftOvers = 10

/**
 * Sends one statement in a transaction of its own and answers with its rows, once they are committed. A connection on
 * which the app left a transaction open is closed, which rolls that back: what was written there would not be
 * committed, and a COMMIT would be the app's as well. So is a connection on which anything failed that is no refusal of
 * the server.
 *
 * @param begin - begins the transaction: SQL without parameters
 * @throws SourceUnavailable when there was no answer by the deadline; else what the driver throws
 */
export async function sendInTransaction (
  begin: string, statement: SourceStatement, { pool, deadline, clock, what }: TransactionScope
): Promise<readonly TextRow[]> {
  const client = await acquired(pool, deadline, what)
  const send = async (sent: SourceStatement): Promise<readonly TextRow[]> => {
    return await sendStatement(() => client, sent, deadline, clock, what)
  }
  let isBroken = true
  try {
    await send({ text: begin, values: [] })
    const rows = await send(statement)
    await send({ text: 'COMMIT', values: [] })
    isBroken = false
    return rows
  } catch (error) {
    if (isRefusal(error)) isBroken = !await isRolledBack(send)
    throw error
  } finally {
    giveBack(client, isBroken)
  }
}

/** A connection of the pool without an open transaction; one that comes after the deadline is given back. */
async function acquired (pool: PoolLike, deadline: Deadline, what: string): Promise<ClientLike> {
  for (let leftOvers = 0; ; leftOvers++) {
    const connecting = acquireClient(pool)
    let client: ClientLike
    try {
      client = await withinDeadline(connecting, deadline, what)
    } catch (error) {
      connecting.then(giveBack, () => {})
      throw error
    }
    if (leftOvers === maxLeftOvers || isIdle(client)) return client
    giveBack(client, true)
  }
}

/** Whether no transaction is open. A driver that does not tell is taken at its word: pg tells since 8.21. */
function isIdle (client: ClientLike & { readonly getTransactionStatus?: () => unknown }): boolean {
  const status = client.getTransactionStatus?.()
  return status === undefined || status === null || status === 'I'
}

function isRefusal (error: unknown): boolean {
  return ['rejected', 'aborted', 'outdated', 'withdrawn'].includes(databaseFailureOf(error, 'own'))
}

async function isRolledBack (send: (statement: SourceStatement) => Promise<unknown>): Promise<boolean> {
  return await send({ text: 'ROLLBACK', values: [] }).then(() => true, () => false)
}

function giveBack (client: ClientLike, destroy = false): void {
  forgetErrors(client)
  client.release(destroy)
}
