import type pg from 'pg'
import { errors } from './errors.js'
import { verdictOf } from './release-verdict.js'

/**
 * Runs the work inside BEGIN and COMMIT on a connection of the pool. Whatever goes wrong (the work rejects or throws synchronously, COMMIT fails,
 * the backend goes) rolls back, gives the connection back exactly once, and rejects with the first error.
 *
 * @param begin - statement after BEGIN, such as SET LOCAL; null for none
 */
export async function transact<T> (pool: pg.Pool, begin: string | null, work: (client: pg.PoolClient) => Promise<T> | T): Promise<T> {
  const client = await pool.connect()
  try {
    await client.query(begin === null ? 'BEGIN' : `BEGIN; ${begin}`)
    const result = await work(client)
    await commit(client)
    client.release()
    return result
  } catch (error) {
    await rollBack(client, error)
    throw error
  }
}

/**
 * Commits.
 *
 * @throws ORI_POOL_ROLLED_BACK when the server rolled back instead, because a statement had failed inside
 */
export async function commit (client: pg.PoolClient): Promise<void> {
  const { command } = await client.query('COMMIT')
  if (command === 'ROLLBACK') throw new errors.RolledBack()
}

/** Rolls back and gives the connection back; a connection that cannot be rolled back is given up. */
export async function rollBack (client: pg.PoolClient, reason: unknown): Promise<void> {
  // Behind a statement without an answer a ROLLBACK would only wait, too.
  const verdict = reason instanceof Error ? verdictOf(reason) : 'keep'
  if (verdict === 'silent' || verdict === 'severed') {
    client.release(reason as Error)
    return
  }
  try {
    if (client.getTransactionStatus() !== 'I') await client.query('ROLLBACK')
    client.release()
  } catch {
    client.release(reason instanceof Error ? reason : true)
  }
}
