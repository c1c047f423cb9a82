import type { FastifyInstance } from 'fastify'
import type { PoolLike } from '../pool-like.js'
import type { UserSource } from '../user-source.js'

/**
 * The pool that `@fastify/postgres`, or `@orientor/pool-tuning`, decorates in this scope, whichever plugin was registered first; null when there is none. To be asked for
 * when the server becomes ready.
 */
export function scopePool (fastify: FastifyInstance): PoolLike | null {
  const { pg } = fastify as FastifyInstance & { readonly pg?: { readonly pool?: PoolLike } }
  return pg?.pool ?? null
}

/**
 * Hands a source what its scope has for it, and waits until loads can be answered, or for as long as the source takes to give that up: to be called when the server becomes
 * ready, by whoever will ask the source. The hub does it for the slot `source`. Rejects when the source lacks what it needs.
 */
export async function startSource (source: UserSource, fastify: FastifyInstance): Promise<void> {
  source.attach?.({ pool: scopePool(fastify), log: fastify.log })
  await source.ready?.()
}
