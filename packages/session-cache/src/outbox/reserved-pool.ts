import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import type { PoolLike } from '@orientor/session-contract/core'

/** A pool for polls, and what ends it where the bus made it. */
export interface ReservedPool {
  readonly pool: PoolLike
  /** Closes the connection that was made for it; one that is silent is closed behind it. Never rejects. */
  end (): Promise<void>
}

/** The longest wait for a connection to end, in milliseconds. */
const closeTimeoutMs = 500

/** The members in which a pool of node-postgres keeps what it was made of, the password not enumerable. */
interface Configured {
  readonly options: pg.PoolConfig
  readonly Client: NonNullable<pg.PoolConfig['Client']>
}

/**
 * Makes sure that polls do not wait behind the statements of an app: takes the pool of one connection that a pool has
 * beside it (`reserved`), else makes one by the configuration of a pool of node-postgres. In any other pool the polls
 * wait like all statements.
 *
 * @param connectTimeoutMs - the longest time that a connection may take to be made
 */
export function reserve (pool: PoolLike, connectTimeoutMs: number): ReservedPool {
  if (pool.reserved !== undefined) return { pool: pool.reserved, end: async () => {} }
  if (!isConfigured(pool)) return { pool, end: async () => {} }
  const { options, Client } = pool
  const config: pg.PoolConfig = {
    ...options,
    Client,
    max: 1,
    min: 0,
    idleTimeoutMillis: 0,
    connectionTimeoutMillis: connectTimeoutMs,
    maxLifetimeSeconds: 0
  }
  if (options.password !== undefined) config.password = options.password
  const reserved = new pg.Pool(config)
  // Without a listener an 'error' event ends the process.
  reserved.on('error', () => {})
  // An app that prepares each connection (its search path, its role) prepares this one, too.
  reserved.on('connect', client => { (pool as unknown as pg.Pool).emit('connect', client) })
  let ended: Promise<void> | undefined
  return {
    pool: reserved as unknown as PoolLike,
    end: () => (ended ??= Promise.race([
      reserved.end().catch(() => {}), pause(closeTimeoutMs, undefined, { ref: false })
    ]))
  }
}

function isConfigured (pool: PoolLike): pool is PoolLike & Configured {
  const { options, Client } = pool as Partial<Configured>
  return typeof options === 'object' && options !== null && typeof Client === 'function'
}
