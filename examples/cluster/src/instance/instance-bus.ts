import type { InvalidationBus } from '@orientor/session-cache/core'
import { postgresBell, postgresBus } from '@orientor/session-cache/postgres'
import type { PoolLike } from '@orientor/session-contract'
import pg from 'pg'
import type { InstanceSettings } from './instance-settings.js'
import { notifyBus } from './notify-bus.js'

/** The bus of an instance, and the pool that it was given; null: none, or that of the app. */
export interface InstanceBus {
  readonly bus: InvalidationBus | null
  readonly pool: pg.Pool | null
}

/** The bus that the settings ask for. */
export function instanceBus (settings: InstanceSettings): InstanceBus {
  const { name, hearing, busUrl, pollIntervalMs, pollTimeoutMs, maxStalenessMs } = settings
  const times = { pollIntervalMs, pollTimeoutMs, maxStalenessMs }
  if (hearing === 'none') return { bus: null, pool: null }
  if (hearing === 'app') return { bus: postgresBus(times), pool: null }
  if (hearing === 'bell') {
    return { bus: postgresBus({ ...times, bell: postgresBell({ listenUrl: busUrl }) }), pool: null }
  }
  if (hearing === 'notify') {
    return { bus: notifyBus(busUrl, { maxStalenessMs, heartbeatTimeoutMs: pollTimeoutMs }), pool: null }
  }
  // One connection: what is left on it is what the next statement finds.
  const pool = new pg.Pool({
    connectionString: busUrl, max: 1, connectionTimeoutMillis: pollTimeoutMs, application_name: `${name} polls`
  })
  pool.on('error', () => {})
  const whole: PoolLike = pool
  const given: PoolLike = { query: statement => whole.query(statement), connect: () => whole.connect() }
  return { bus: postgresBus({ ...times, pool: hearing === 'own' ? whole : given }), pool }
}
