import { SourceUnavailable, startDeadline, type Clock, type Component, type Health } from '@orientor/session-contract/core'
import type { PostgresUserStore } from './postgres-user-store.js'
import type { SmartDatabaseSync } from './smart-database-sync.js'

const pingPatienceMs = 1000

/** What smart sync shows of itself to the monitoring routes. Its health asks the database, for at most a second. */
export function syncComponent (sync: SmartDatabaseSync, store: Pick<PostgresUserStore, 'ping' | 'statements' | 'refusedWrites'>, clock: Clock, concern: () => string | null): Component {
  async function health (): Promise<Health> {
    const deadline = startDeadline(clock, pingPatienceMs)
    try {
      await store.ping(deadline)
    } catch (error) {
      return verdict('unhealthy', error instanceof SourceUnavailable ? error.message : 'The database refuses statements')
    } finally {
      deadline.release()
    }
    const flaw = concern()
    if (flaw !== null) return verdict('degraded', flaw)
    const { refusedWrites } = store
    if (refusedWrites !== null) return verdict('degraded', `PostgreSQL refuses to write users: ${refusedWrites.reason} (${refusedWrites.code})`)
    if (sync.lastProviderFailure !== null) return verdict('degraded', 'The identity provider could not be asked the last time')
    return verdict('healthy', 'The users table answers')
  }

  function verdict (status: Health['status'], reason: string): Health {
    return { status, reason, checkedAtMs: clock.now() }
  }

  return Object.freeze({ name: 'databaseSync', instruments: sync.stats.instruments, health, stats: () => Object.freeze({ ...sync.stats.flat(), statements: store.statements }) })
}
