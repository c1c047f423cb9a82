import { systemClock, startDeadline } from '@orientor/session-contract/core'
import {
  defaultClaimNames, migrate, PostgresUserStore, SmartDatabaseSync, type Observation, type SyncOutcome
} from '@orientor/smart-sync/core'
import pg from 'pg'

/** A users table as smart-sync makes it, and both ways to it. */
export interface SyncScene {
  /** Connections for single statements. */
  readonly clients: readonly pg.ClientBase[]
  /** Applies observations, and answers with the kinds of their outcomes. */
  apply (observations: readonly Observation[]): Promise<ReadonlyArray<SyncOutcome['kind']>>
  close (): Promise<void>
}

const appliedWithinMs = 60_000

/** Makes the tables of a database; on a server whose cleaning must not come between two slices. */
export async function makeTables (databaseUrl: string): Promise<void> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 1 })
  try {
    await migrate({ pool })
    await pool.query('ALTER TABLE users SET (autovacuum_enabled = false)')
  } finally {
    await pool.end()
  }
}

/** Opens both ways to the table. */
export async function openScene (
  databaseUrl: string, synchronousCommit: 'on' | 'off', clientCount: number
): Promise<SyncScene> {
  const config = { connectionString: databaseUrl, options: `-c synchronous_commit=${synchronousCommit}` }
  const pool = new pg.Pool({ ...config, max: clientCount })
  const store = new PostgresUserStore({ pool: () => pool, clock: systemClock, random: Math.random })
  const sync = new SmartDatabaseSync({
    store,
    provider: null,
    claims: defaultClaimNames,
    forceSyncAfterMs: 3_600_000,
    parseProfile: null,
    clock: systemClock
  })
  const clients = Array.from({ length: clientCount }, () => new pg.Client(config))
  await Promise.all(clients.map(client => client.connect()))
  return {
    clients,
    async apply (observations) {
      const deadline = startDeadline(systemClock, appliedWithinMs)
      try {
        return (await sync.apply(observations, { deadline })).map(({ kind }) => kind)
      } finally {
        deadline.release()
      }
    },
    async close () {
      await Promise.all(clients.map(client => client.end()))
      await pool.end()
    }
  }
}
