import type { ProfileObserved } from '@orientor/smart-sync/core'
import pg from 'pg'
import type { UnchangedUsers } from './report.js'
import type { SyncScene } from './scene.js'
import { upsertSingly } from './single-upserts.js'

/**
 * Gives users who are in step once more, in batches and singly, and counts what that writes into the write-ahead log.
 * The table is cleaned before: what the first reading of a changed row leaves behind is the change's.
 *
 * @param users - each as its row is already
 * @throws when one is not in step
 */
export async function measureUnchanged (
  databaseUrl: string, scene: SyncScene, users: readonly ProfileObserved[], batchSize: number
): Promise<UnchangedUsers> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  /** Cleans the table, and counts what the other sessions send while the work goes on. */
  const sentDuring = async (work: () => Promise<void>): Promise<Pick<UnchangedUsers, 'statements' | 'walRecords'>> => {
    await client.query('VACUUM users')
    await client.query('SELECT pg_stat_statements_reset()')
    await work()
    const { rows: [sent] } = await client.query<{ statements: string, wal_records: string }>(
      `SELECT sum(calls) AS statements, sum(wal_records) AS wal_records FROM pg_stat_statements
      WHERE query !~ 'pg_stat_statements'`)
    return { statements: Number(sent!.statements), walRecords: Number(sent!.wal_records) }
  }
  try {
    await client.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements')
    const batches = await sentDuring(async () => {
      for (let start = 0; start < users.length; start += batchSize) {
        const outcomes = await scene.apply(users.slice(start, start + batchSize))
        const other = outcomes.find(kind => kind !== 'unchanged')
        if (other !== undefined) throw new Error(`a user who was to be in step is ${other}`)
      }
    })
    const singles = await sentDuring(async () => { await upsertSingly(scene.clients, users) })
    return { users: users.length, ...batches, singleWalRecords: singles.walRecords }
  } finally {
    await client.end()
  }
}
