import { poolTuning } from '@orientor/pool-tuning'
import { sessionCache } from '@orientor/session-cache'
import { requireSessionUser } from '@orientor/session-contract'
import { sessionIdentity } from '@orientor/session-identity'
import { smartSync } from '@orientor/smart-sync'
import fastify, { type FastifyInstance } from 'fastify'
import type pg from 'pg'
import { instanceBus } from './instance-bus.js'
import type { InstanceSettings, View } from './instance-settings.js'

const view = {
  type: 'object',
  properties: {
    instance: { type: 'string' },
    subject: { type: 'string' },
    firstName: { type: ['string', 'null'] },
    stale: { type: 'boolean' },
    cachedAtMs: { type: 'number' },
    trusted: { type: 'boolean' },
    epoch: { type: 'integer' }
  }
} as const

/** A service, and the pool that its bus borrows; null where it borrows none. */
export interface Instance {
  readonly app: FastifyInstance
  readonly pool: pg.Pool | null
}

/** One service of several on the same database. It does not listen yet. */
export async function buildInstance (settings: InstanceSettings): Promise<Instance> {
  const { name, databaseUrl, issuer, jwksUrl, staleIfErrorMs, expireAfterMs, loadTimeoutMs } = settings
  const app = fastify({ logger: { level: 'error', base: { instance: name } }, return503OnClosing: false })
  await app.register(poolTuning, { connectionString: databaseUrl, environment: {}, size: 3, overflow: 2, client: { application_name: `${name} pool` } })
  // What the provider says is no part of this: only the database changes.
  await app.register(smartSync, { forceSyncAfterMs: Number.MAX_SAFE_INTEGER })
  await app.register(sessionIdentity, { issuer, jwksUrl })
  const { bus, pool } = instanceBus(settings)
  await app.register(sessionCache, { expireAfterMs, staleIfErrorMs, loadTimeoutMs, ...bus !== null && { bus } })

  app.get('/me', { config: { session: { required: true } }, schema: { response: { 200: view } } }, (request, reply) => {
    const { subject, firstName } = requireSessionUser(request)
    const outcome = request.sessionOutcome
    reply.send({
      instance: name,
      subject,
      firstName,
      stale: outcome?.kind === 'user' && outcome.stale,
      cachedAtMs: outcome?.kind === 'user' ? outcome.cachedAtMs : 0,
      trusted: bus?.status().trusted ?? false,
      epoch: bus?.trust.epoch ?? 0
    } satisfies View)
  })
  app.addHook('onClose', async () => { await pool?.end() })
  return { app, pool }
}
