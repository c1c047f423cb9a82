import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import type pg from 'pg'
import type { DatabaseConnectionOptimizer } from './database-connection-optimizer.js'
import { commit, rollBack } from './transaction.js'

interface Open { readonly client: pg.PoolClient, failed: Error | null }

/**
 * Takes over routes with `pg: { transact: true }`: a transaction around the handler, committed before the reply is sent and rolled back when
 * anything was thrown. The client goes back exactly once: after COMMIT, after ROLLBACK, or, where the reply was hijacked, when the response ends.
 */
export function transactRoutes (fastify: FastifyInstance, optimizer: DatabaseConnectionOptimizer): void {
  const open = new WeakMap<FastifyRequest, Open>()

  const begin = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const client = await optimizer.pool.connect()
    open.set(request, { client, failed: null })
    request.pg = client
    // Only a hijacked reply (`sent`) passes onSend by. Any other handler still works with its client when the caller has gone.
    reply.raw.once('close', () => { if (reply.sent) abandon(request, reply) })
    const { onBegin } = optimizer
    await client.query(onBegin === null ? 'BEGIN' : `BEGIN; ${onBegin}`)
  }
  const fail = async (request: FastifyRequest, _reply: FastifyReply, error: Error): Promise<void> => {
    const transaction = open.get(request)
    if (transaction !== undefined) transaction.failed = error
  }
  const finish = async (request: FastifyRequest): Promise<void> => {
    const transaction = take(request)
    if (transaction === null) return
    const { client, failed } = transaction
    if (failed !== null) {
      await rollBack(client, failed)
      return
    }
    try {
      await commit(client)
    } catch (error) {
      await rollBack(client, error)
      throw error
    }
    client.release()
  }
  const abandon = (request: FastifyRequest, reply: FastifyReply): void => {
    const transaction = take(request)
    if (transaction === null) return
    // Whoever hijacked a reply that broke off may still send statements: they must not reach the next borrower of the connection.
    if (!reply.raw.writableFinished) transaction.client.release(true)
    else rollBack(transaction.client, null).catch((error: unknown) => { request.log.warn({ err: error }, 'pool: a transaction could not be rolled back') })
  }
  const take = (request: FastifyRequest): Open | null => {
    const transaction = open.get(request)
    if (transaction === undefined) return null
    open.delete(request)
    delete request.pg
    return transaction
  }

  fastify.addHook('onRoute', route => {
    if (route.pg?.transact !== true) return
    // @fastify/postgres, whose hook runs after this one, leaves the route alone.
    route.pg = { ...route.pg, transact: false }
    route.preHandler = [...list(route.preHandler), begin] as NonNullable<RouteOptions['preHandler']>
    route.onError = [...list(route.onError), fail] as NonNullable<RouteOptions['onError']>
    route.onSend = [...list(route.onSend), finish] as NonNullable<RouteOptions['onSend']>
  })
}

function list<T> (hooks: T | T[] | undefined): T[] {
  return hooks === undefined ? [] : Array.isArray(hooks) ? hooks : [hooks]
}
