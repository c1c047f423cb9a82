import { sessionKeyHash, withdrawalOf, type Component, type Health, type UserSource } from '@orientor/session-contract/core'
import type { DatabaseSessionManager } from './database-session-manager.js'
import { cacheInstruments } from './instruments.js'
import type { SessionCacheSettings } from './options.js'

/** What the component is made of, beside the manager and its settings. */
export interface CacheComponentParts {
  /** The source of the scope; null when there is none. */
  readonly source: () => UserSource | null
  /** Drops all users of this instance. */
  readonly invalidateAll: (reason: string) => void
}

/** What the monitoring routes may show of the cache and do with it. Degraded while it has to do without its source or its bus, unhealthy while PostgreSQL refuses, and says why. */
export function cacheComponent (manager: DatabaseSessionManager, settings: SessionCacheSettings, { source, invalidateAll }: CacheComponentParts): Component {
  const { cache } = manager
  const { bus, clock } = settings
  return {
    name: 'sessionCache',
    instruments: [...cacheInstruments(() => manager.stats()), ...bus?.instruments ?? []],
    stats: () => manager.stats(),
    health () {
      return { ...healthOf(manager, settings, source()), checkedAtMs: clock.now() }
    },
    admin: {
      async invalidate (target, reason) {
        if (target === 'all') invalidateAll(reason)
        else cache.invalidateUser(target.key)
        if (bus === null) return { instances: 1 }
        await bus.publish(target === 'all' ? { kind: 'all' } : { kind: 'user', keyHash: sessionKeyHash(target.key), revision: null })
        return { instances: bus.status().instances }
      },
      preload: (keys, deadline) => cache.preload(keys, deadline),
      recent: async limit => cache.recent(limit)
    }
  }
}

function healthOf ({ cache, gate }: DatabaseSessionManager, { bus }: SessionCacheSettings, source: UserSource | null): Omit<Health, 'checkedAtMs'> {
  if (source === null) return { status: 'degraded', reason: 'No source of users is in scope' }
  if (gate.isOpen || cache.counters.lastLoadFailed) {
    const withdrawal = withdrawalOf(gate.failure, 'own')
    if (withdrawal !== null) return { status: 'unhealthy', reason: `PostgreSQL refuses the source: ${withdrawal.reason} (${withdrawal.code}); ${stillServed}` }
    return { status: 'degraded', reason: `${gate.isOpen ? 'The source failed repeatedly and is being probed' : 'The last load failed'}; ${stillServed}` }
  }
  if (bus === null) return healthy
  const { trusted, reason } = bus.status()
  if (cache.counters.isLastElsewhere) {
    return {
      status: 'degraded',
      reason: 'Users are loaded each time and not kept, since they are read elsewhere than the bus polls: from another ' +
        'server, database or schema, in another isolation than READ COMMITTED, or in a transaction that was left open. ' +
        'Give source and bus the same pool'
    }
  }
  if (trusted) return healthy
  return { status: 'degraded', reason: `It is not proven that changes by other instances arrive, so users are kept for ${bus.trust.maxStalenessMs} ms only: ${reason}` }
}

const healthy = { status: 'healthy', reason: 'Users are served from memory' } as const
const stillServed = 'known users are served, marked stale once they expire'
