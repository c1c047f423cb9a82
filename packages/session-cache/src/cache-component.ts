import { sessionKeyHash, type Component, type UserSource } from '@orientor/session-contract/core'
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

/** What the monitoring routes may show of the cache and do with it. Degraded while it has to do without its source or its bus, and says why. */
export function cacheComponent (manager: DatabaseSessionManager, settings: SessionCacheSettings, { source, invalidateAll }: CacheComponentParts): Component {
  const { cache } = manager
  const { bus, clock } = settings
  return {
    name: 'sessionCache',
    instruments: [...cacheInstruments(() => manager.stats()), ...bus?.instruments ?? []],
    stats: () => manager.stats(),
    health () {
      const flaw = flawOf(manager, settings, source())
      return { status: flaw === null ? 'healthy' : 'degraded', reason: flaw ?? 'Users are served from memory', checkedAtMs: clock.now() }
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

function flawOf ({ cache, gate }: DatabaseSessionManager, { bus }: SessionCacheSettings, source: UserSource | null): string | null {
  if (source === null) return 'No source of users is in scope'
  if (gate.isOpen) return 'The source failed repeatedly and is being probed; known users are served, marked stale once they expire'
  if (cache.counters.lastLoadFailed) return 'The last load failed; known users are served, marked stale once they expire'
  if (bus === null) return null
  const { trusted, reason } = bus.status()
  return trusted ? null : `It is not proven that changes by other instances arrive, so users are kept for ${bus.trust.maxStalenessMs} ms only: ${reason}`
}
