import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { identified, sessionHub, sessionKey, type Component, type Deadline, type SessionKey, type UserRecord, type UserSource } from '@orientor/session-contract'
import type { SessionCacheStats } from './cache-stats.js'
import { Cleanup } from './cleanup.js'
import { DatabaseSessionManager } from './database-session-manager.js'
import { cacheInstruments } from './instruments.js'
import { resolveOptions, type SessionCacheOptions } from './options.js'
import type { WarmedUp } from './warm-up.js'

/** A user, by key or by the two parts of it. */
export type InvalidationTarget = SessionKey | { readonly issuer: string, readonly subject: string }

/** The cache of this scope, as the app sees it. */
export interface SessionCache {
  /**
   * Drops a user on this instance: the next request loads anew. Returns whether the user was in memory.
   *
   * @throws ORI_CONTRACT_INVALID_SESSION_KEY when issuer or subject cannot name a user
   */
  invalidateUser (target: InvalidationTarget): boolean
  /** Drops all users on this instance and returns how many that were. The reason goes to the log. */
  invalidateAll (reason: string): number
  /** Loads users before anybody asks for them. */
  preload (keys: readonly SessionKey[], deadline?: Deadline): Promise<WarmedUp>
  /**
   * Loads a user anew, whatever is in memory, and answers with what the source says; creates nobody. `force` (default false) also asks the
   * provider, whatever the timestamps say.
   *
   * @throws SourceUnavailable when the source cannot be asked; what the source throws when that is a defect; ORI_CACHE_MALFORMED_RECORD;
   *   ORI_CONTRACT_INVALID_SESSION_KEY when issuer or subject cannot name a user
   */
  refresh (target: InvalidationTarget, options?: { readonly force?: boolean }): Promise<UserRecord>
  stats (): SessionCacheStats
  /** Resolves when no load is on its way. */
  idle (): Promise<void>
  /** Begins no further load and resolves when the last one has ended; what is in memory is served on. The app's close() does it. */
  close (): Promise<void>
}

declare module 'fastify' {
  interface FastifyInstance {
    sessionCache: SessionCache
  }
}

const name = '@orientor/session-cache'

const plugin: FastifyPluginAsync<SessionCacheOptions> = async (fastify, input) => {
  const settings = resolveOptions(input)
  const hub = sessionHub(fastify)
  let source: UserSource | null = null
  let unsubscribe: (() => void) | undefined

  const sourceOfScope = (): UserSource | null => {
    if (source === null) {
      source = settings.source ?? hub.slots.source ?? null
      unsubscribe = source?.onChange?.(change => { cache.apply(change) })
    }
    return source
  }
  const manager = new DatabaseSessionManager(settings, { source: sourceOfScope })
  const { cache } = manager

  const invalidateAll = (reason: string): number => {
    const dropped = cache.invalidateAll()
    fastify.log.info({ reason, dropped }, 'session cache: all users invalidated')
    return dropped
  }
  hub.fill('resolve', name, (identity, route) => sourceOfScope() === null ? identified : manager.resolve(identity, route))
  hub.observe(componentOf(manager, () => settings.clock.now(), sourceOfScope, invalidateAll))
  fastify.decorate('sessionCache', Object.freeze<SessionCache>({
    invalidateUser: target => cache.invalidateUser(keyOf(target)),
    invalidateAll,
    preload: (keys, deadline) => cache.preload(keys, deadline),
    refresh: async (target, options) => await cache.refresh(keyOf(target), options),
    stats: () => manager.stats(),
    idle: () => cache.idle(),
    close: () => manager.close()
  }))

  const cleanup = new Cleanup(limit => cache.sweep(limit), settings.clock, settings.cleanupIntervalMs)
  // Not before: the plugin that fills the slot may be registered after this one.
  fastify.addHook('onReady', async () => { sourceOfScope() })
  fastify.addHook('onClose', async () => {
    cleanup.stop()
    unsubscribe?.()
    await manager.close()
  })
}

function keyOf (target: InvalidationTarget): SessionKey {
  return typeof target === 'string' ? target : sessionKey(target.issuer, target.subject)
}

function componentOf (manager: DatabaseSessionManager, now: () => number, source: () => UserSource | null, invalidateAll: (reason: string) => number): Component {
  const { cache, gate } = manager
  return {
    name: 'sessionCache',
    instruments: cacheInstruments(() => manager.stats()),
    stats: () => manager.stats(),
    health () {
      const flaw = source() === null
        ? 'No source of users is in scope'
        : gate.isOpen
          ? 'The source failed repeatedly and is being probed; known users are served, marked stale once they expire'
          : cache.counters.lastLoadFailed ? 'The last load failed; known users are served, marked stale once they expire' : null
      return { status: flaw === null ? 'healthy' : 'degraded', reason: flaw ?? 'Users are served from memory', checkedAtMs: now() }
    },
    admin: {
      async invalidate (target, reason) {
        if (target === 'all') invalidateAll(reason)
        else cache.invalidateUser(target.key)
        // Nobody passes it on to other instances.
        return { instances: 1 }
      },
      preload: (keys, deadline) => cache.preload(keys, deadline),
      recent: async limit => cache.recent(limit)
    }
  }
}

/** Resolves identities to users from memory; see SessionCacheOptions. */
export const sessionCache: FastifyPluginAsync<SessionCacheOptions> = fp(plugin, { name, fastify: '5.x' })
export default sessionCache
