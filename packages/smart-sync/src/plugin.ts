import {
  scopePool, sessionHub, splitSessionKey, startDeadline, Withdrawals, type Deadline, type PoolLike, type SessionKey,
  type UserRecord
} from '@orientor/session-contract'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { ClerkProvider } from './clerk/clerk-provider.js'
import { ClerkWebhook } from './clerk/clerk-webhook.js'
import { errors } from './errors.js'
import type { Observation } from './observation.js'
import { resolveOptions, type SmartSyncOptions } from './options.js'
import { PostgresUserStore } from './postgres-user-store.js'
import { prepareTables } from './prepare-tables.js'
import { SmartDatabaseSync } from './smart-database-sync.js'
import type { SyncOutcome } from './sync-outcome.js'
import { syncComponent } from './sync-component.js'
import type { SyncStatsSnapshot } from './sync-stats.js'
import { TablesGate } from './tables-gate.js'
import { tellPreparation } from './tell-preparation.js'
import { unholdableTeller } from './unholdable-teller.js'
import { usersTableOf } from './users-table.js'
import { WebhookReceiver } from './webhook-receiver.js'
import { webhookRoutes } from './webhook-routes.js'
import { WebhookStats } from './webhook-stats.js'

/** The methods of `fastify.smartSync`. */
export interface SmartSync {
  /** Counts since the start. */
  stats (): SyncStatsSnapshot
  /**
   * Resolves when the tables are in place, or users can be read at least (at once with `migrate: false`, when the
   * server is ready); rejects with ORI_SYNC_CLOSED when the server closes before.
   */
  readonly migrated: Promise<void>
  /**
   * Compares one user with the provider where that is due, or in any case with `force`, and answers with the record.
   *
   * @param options - `withinMs`: the longest time it may take, in milliseconds; default is 10000
   * @throws SourceUnavailable when the database, or for a user without a row the provider, cannot be asked in time
   */
  sync (key: SessionKey, options?: { readonly force?: boolean, readonly withinMs?: number }): Promise<UserRecord>
  /**
   * Stores what was learned of users, whatever the order and however often: made by observe(), sessionEnded() and
   * userDeleted(). Answers with one outcome each, once everything is committed; see SmartDatabaseSync.apply().
   *
   * @param options - `withinMs`: the longest time it may take, in milliseconds; default is 10000
   * @throws SourceUnavailable when some could not be stored in time; applying all again does no harm
   */
  apply (
    observations: readonly Observation[], options?: { readonly withinMs?: number }
  ): Promise<readonly SyncOutcome[]>
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Keeps the users table in step with the identity provider. */
    smartSync: SmartSync
  }
}

const name = '@orientor/smart-sync'
// The action that PostgreSQL may refuse.
const placing = 'to put the tables in place'
// Below the 10 s that Fastify gives a plugin to become ready.
const startPatienceMs = 5000
// The time that a method of the decoration takes at most, unless told.
const patienceMs = 10_000

const plugin: FastifyPluginAsync<SmartSyncOptions> = async (fastify, input) => {
  const options = resolveOptions(input)
  const { clock, random } = options
  const hub = sessionHub(fastify)

  const withdrawals = new Withdrawals('smart-sync', fastify.log, clock)

  let found: PoolLike | undefined
  const pool = (): PoolLike => (found ??= options.pool ?? decoratedPool(fastify))
  const gate = new TablesGate({
    prepare: signal => {
      const { migrate: migrates, webhooks, deletionPolicy } = options
      const events = webhooks === undefined ? null : { deletionPolicy }
      return prepareTables({ pool: pool(), table: usersTableOf(options), migrates, events, clock, signal })
    },
    clock,
    random,
    onFailure: error => {
      withdrawals.failed(placing, error)
      fastify.log.warn({ err: error }, 'the tables of smart-sync are not in place yet; trying again')
    },
    onPrepared: preparation => { tellPreparation(preparation, fastify.log) }
  })
  const store = new PostgresUserStore({
    ...usersTableOf(options),
    pool: () => { gate.pass(); return pool() },
    beforeWrite: () => { gate.passWrite() },
    clock,
    random,
    withdrawals,
    onUnholdable: unholdableTeller(fastify.log)
  })
  gate.opened.then(() => { withdrawals.answered(placing) }, () => {})
  // The first plugin that needs the tables begins: their hooks run in the order of registration.
  let starting: Promise<void> | undefined
  const ready = (): Promise<void> => (starting ??= gate.start(startPatienceMs))
  const sync = new SmartDatabaseSync({
    store,
    provider: options.provider ?? (options.clerk === undefined ? null : new ClerkProvider({ ...options.clerk, clock })),
    claims: options.claims,
    forceSyncAfterMs: options.forceSyncAfterMs,
    deletionPolicy: options.deletionPolicy,
    log: fastify.log,
    parseProfile: options.parseProfile ?? null,
    clock,
    ready
  })

  const { webhooks } = options
  const webhookStats = webhooks === undefined ? null : new WebhookStats()

  hub.fill('source', name, sync)
  hub.observe(syncComponent(sync, store, clock, () => gate.concern, webhookStats))
  fastify.decorate('smartSync', {
    stats: () => sync.stats.snapshot(),
    migrated: gate.opened,
    async sync (key, { force = false, withinMs = patienceMs } = {}) {
      return await within(withinMs, async deadline => {
        return await sync.load([{ key, ...splitSessionKey(key), identity: null, force }], deadline)[0]!
      })
    },
    async apply (observations, { withinMs = patienceMs } = {}) {
      return await within(withinMs, async deadline => await sync.apply(observations, { deadline }))
    }
  })
  if (webhooks !== undefined && webhookStats !== null) {
    const { path, maxBodyBytes } = webhooks
    const reader = new ClerkWebhook({ ...webhooks, clock })
    await fastify.register(webhookRoutes, {
      path, maxBodyBytes, receiver: new WebhookReceiver({ reader, sync, stats: webhookStats, clock })
    })
  }
  fastify.addHook('onReady', async () => {
    pool()
    await ready()
  })
  fastify.addHook('onClose', async () => {
    await sync.close()
    await gate.close()
  })

  async function within<T> (ms: number, work: (deadline: Deadline) => Promise<T>): Promise<T> {
    const deadline = startDeadline(clock, ms)
    try {
      return await work(deadline)
    } finally {
      deadline.release()
    }
  }
}

function decoratedPool (fastify: FastifyInstance): PoolLike {
  const pool = scopePool(fastify)
  if (pool === null) throw new errors.NoPool()
  return pool
}

/** The users table as a source of users: in step with the identity provider, written only on change. */
export const smartSync: FastifyPluginAsync<SmartSyncOptions> = fp(plugin, { name, fastify: '5.x' })
export default smartSync
