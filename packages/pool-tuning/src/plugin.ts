import fastifyPostgres from '@fastify/postgres'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import pg from 'pg'
import { sessionHub } from '@orientor/session-contract'
import { DatabaseConnectionOptimizer } from './database-connection-optimizer.js'
import type { PoolTuningOptions } from './options.js'
import { throwLater } from './throw-later.js'
import { transactRoutes } from './transact-routes.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The pool under `fastify.pg`: health, statistics and `explain()`. */
    poolTuning: DatabaseConnectionOptimizer
  }
}

type Transact = FastifyInstance['pg']['transact']

const plugin: FastifyPluginAsync<PoolTuningOptions> = async (fastify, options) => {
  const optimizer = new DatabaseConnectionOptimizer(options, { logger: fastify.log })
  const { pool } = optimizer

  fastify.addHook('preClose', async () => { optimizer.beginDrain() })
  fastify.addHook('onClose', () => optimizer.close())

  transactRoutes(fastify, optimizer)
  // @fastify/postgres makes its pool with `new pg.Pool()`; a constructor that returns an object hands ours over.
  await fastify.register(fastifyPostgres, { pg: { ...pg, Pool: function () { return pool } as unknown as typeof pg.Pool } as typeof pg })
  const transact = (work: (client: pg.PoolClient) => Promise<unknown>, done?: (error: Error | null, result?: unknown) => void): Promise<unknown> | void => {
    const result = optimizer.transact(work)
    if (done === undefined) return result
    result.then(value => { done(null, value) }, (error: Error) => { done(error) }).catch(throwLater)
  }
  fastify.pg.transact = transact as Transact

  fastify.decorate('poolTuning', optimizer)
  sessionHub(fastify).observe(optimizer.component)
  fastify.addHook('onReady', async () => { await optimizer.start() })
}

/** Registers `@fastify/postgres` over a pool that recovers by itself. Use it instead of `@fastify/postgres`. */
const poolTuning: FastifyPluginAsync<PoolTuningOptions> = fp(plugin, { name: '@orientor/pool-tuning', fastify: '5.x' })

export { poolTuning }
export default poolTuning
