import {
  SourceUnavailable, startDeadline, type Clock, type Component, type Health
} from '@orientor/session-contract/core'
import type { PostgresUserStore } from './postgres-user-store.js'
import type { SmartDatabaseSync } from './smart-database-sync.js'
import type { WebhookStats } from './webhook-stats.js'

const pingPatienceMs = 1000

type ShownStore = Pick<PostgresUserStore, 'ping' | 'statements' | 'refusedWrites'>

/**
 * The component of smart-sync for the monitoring routes. Its health asks the database, for at most a second.
 *
 * @param webhooks - null: none are taken
 */
export function syncComponent (
  sync: SmartDatabaseSync, store: ShownStore, clock: Clock, concern: () => string | null, webhooks: WebhookStats | null
): Component {
  async function health (): Promise<Health> {
    const deadline = startDeadline(clock, pingPatienceMs)
    try {
      await store.ping(deadline)
    } catch (error) {
      const isOutage = error instanceof SourceUnavailable
      return verdict('unhealthy', isOutage ? error.message : 'The database refuses statements')
    } finally {
      deadline.release()
    }
    const flaw = concern()
    if (flaw !== null) return verdict('degraded', flaw)
    const { refusedWrites } = store
    if (refusedWrites !== null) {
      const { reason, code } = refusedWrites
      return verdict('degraded', `PostgreSQL refuses to write users: ${reason} (${code})`)
    }
    if (sync.lastProviderFailure !== null) {
      return verdict('degraded', 'The identity provider could not be asked the last time')
    }
    return verdict('healthy', 'The users table answers')
  }

  function verdict (status: Health['status'], reason: string): Health {
    return { status, reason, checkedAtMs: clock.now() }
  }

  const stats = (): Readonly<Record<string, number>> => {
    return Object.freeze({ ...sync.stats.flat(), ...webhooks?.flat(), statements: store.statements })
  }
  const instruments = Object.freeze([...sync.stats.instruments, ...webhooks?.instruments ?? []])
  return Object.freeze({ name: 'databaseSync', instruments, health, stats })
}
