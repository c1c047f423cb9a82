import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { identified, scopePool, sessionHub, sessionKey, sessionKeyHash, startSource, type Deadline, type SessionKey, type UserChange, type UserRecord, type UserSource } from '@orientor/session-contract'
import { cacheComponent } from './cache-component.js'
import type { SessionCacheStats } from './cache-stats.js'
import { Cleanup } from './cleanup.js'
import { DatabaseSessionManager } from './database-session-manager.js'
import { resolveOptions, type SessionCacheOptions } from './options.js'
import { TrustReminder } from './trust-reminder.js'
import type { WarmedUp } from './warm-up.js'

/** A user, by key or by the two parts of it. */
export type InvalidationTarget = SessionKey | { readonly issuer: string, readonly subject: string }

/** The cache of this scope, as the app sees it. */
export interface SessionCache {
  /**
   * Drops a user on this instance, at once: the next request loads anew. Returns whether the user was in memory here. With a bus the other instances are told
   * behind it; when that fails, it is logged.
   *
   * @throws ORI_CONTRACT_INVALID_SESSION_KEY when issuer or subject cannot name a user
   */
  invalidateUser (target: InvalidationTarget): boolean
  /** Drops all users on this instance, at once, and returns how many that were; with a bus the others are told, too. The reason goes to the log. */
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
  const { bus } = settings
  const hub = sessionHub(fastify)
  let source: UserSource | null = null
  let unsubscribe: (() => void) | undefined

  const sourceOfScope = (): UserSource | null => {
    if (source === null) {
      source = settings.source ?? hub.slots.source ?? null
      unsubscribe = source?.onChange?.(change => {
        cache.apply(change)
        if (bus?.hearsWrites === false) announce(change)
        else bus?.hint?.([change])
      })
    }
    return source
  }
  const manager = new DatabaseSessionManager(settings, { source: sourceOfScope })
  const { cache } = manager

  let starting: Promise<void> | undefined
  /** Resolves when the source can be asked. One that fills the slot is started by the hub. */
  const started = async (users: UserSource): Promise<void> => {
    if (settings.source === null) await users.ready?.()
    else await (starting ??= startSource(users, fastify))
  }

  /** Tells the other instances, behind whoever made the change. */
  const announce = (change: UserChange): void => {
    bus?.publish(change).catch((err: unknown) => { fastify.log.warn({ err }, 'session cache: the other instances could not be told of a change') })
  }
  const invalidateAll = (reason: string): number => {
    const dropped = cache.invalidateAll()
    fastify.log.info({ reason, dropped }, 'session cache: all users invalidated')
    return dropped
  }
  hub.fill('resolve', settings.source === null ? name : `${name}(source of its own)`, (identity, route) => sourceOfScope() === null ? identified : manager.resolve(identity, route))
  hub.observe(cacheComponent(manager, settings, { source: sourceOfScope, invalidateAll }))
  fastify.decorate('sessionCache', Object.freeze<SessionCache>({
    invalidateUser (target) {
      const key = keyOf(target)
      const known = cache.invalidateUser(key)
      announce({ kind: 'user', keyHash: sessionKeyHash(key), revision: null })
      return known
    },
    invalidateAll (reason) {
      const dropped = invalidateAll(reason)
      announce({ kind: 'all' })
      return dropped
    },
    preload: (keys, deadline) => cache.preload(keys, deadline),
    refresh: async (target, options) => await cache.refresh(keyOf(target), options),
    stats: () => manager.stats(),
    idle: () => cache.idle(),
    close: () => manager.close()
  }))

  if (bus !== null) {
    bus.subscribe(change => { cache.apply(change) })
    // What was loaded before trust began is not covered by its proofs.
    bus.onTrust(({ trusted }) => { if (trusted) cache.renew().catch(() => {}) })
    hub.mention('bus', async () => {
      const users = sourceOfScope()
      if (users === null) return `${bus.name}(no source)`
      // The tables to be watched may be made by the source.
      await started(users)
      await bus.start({
        watches: users.watches ?? [],
        pool: scopePool(fastify),
        report: ({ level, message, sql }) => { fastify.log[level](sql === undefined ? {} : { sql }, message) }
      })
      const { trusted, reason } = bus.status()
      return `${bus.name}(${trusted ? 'trusted' : `not trusted: ${reason}`})`
    })
  }

  const cleanup = new Cleanup(limit => cache.sweep(limit), settings.clock, settings.cleanupIntervalMs)
  let reminder: TrustReminder | undefined
  // Not before: the plugin that fills the slot may be registered after this one.
  fastify.addHook('onReady', async () => {
    const users = sourceOfScope()
    if (users !== null) await started(users)
    if (bus !== null) reminder = new TrustReminder(bus, settings.clock, message => { fastify.log.warn(message) })
  })
  fastify.addHook('onClose', async () => {
    cleanup.stop()
    reminder?.stop()
    unsubscribe?.()
    await bus?.close()
    await manager.close()
  })
}

function keyOf (target: InvalidationTarget): SessionKey {
  return typeof target === 'string' ? target : sessionKey(target.issuer, target.subject)
}

/** Resolves identities to users from memory; see SessionCacheOptions. */
export const sessionCache: FastifyPluginAsync<SessionCacheOptions> = fp(plugin, { name, fastify: '5.x' })
export default sessionCache
