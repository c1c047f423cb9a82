import Fastify, { type FastifyInstance } from 'fastify'
import { poolTuning, type TunedQueryConfig } from '@orientor/pool-tuning'

export async function build (connectionString: string): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(poolTuning, { connectionString, preset: 'railway' })

  app.get('/now', async () => {
    // Marked as idempotent: sent again when its connection is cut in flight.
    const now: TunedQueryConfig = { text: 'SELECT now()', idempotent: true }
    const { rows } = await app.pg.query(now)
    return rows[0]
  })

  app.post('/notes', { pg: { transact: true } }, async request => {
    await request.pg!.query('CREATE TABLE IF NOT EXISTS notes (text text)')
    await request.pg!.query('INSERT INTO notes VALUES ($1)', ['hello'])
    return { saved: true }
  })

  app.get('/pool', async () => app.poolTuning.explain())
  return app
}
