import perfRoutes, { adminKey } from '@orientor/perf-routes'
import { fastify, type FastifyInstance } from 'fastify'

/** @param key - what the header x-admin-key must hold; at least 32 characters, for example from `openssl rand -base64 32` */
export async function build (key: string): Promise<FastifyInstance> {
  const app = fastify()

  // GET /database/performance, GET /database/health, POST /database/invalidate-user-cache
  await app.register(perfRoutes, { authorize: adminKey(key) })

  // Responses of the app's own routes are measured.
  app.get('/greeting', () => ({ greeting: 'Hello' }))

  // The same figures for code.
  app.get('/load', () => {
    const { count, times } = app.perfRoutes.performance().responses
    return { responses: count, averageMs: times.averageMs }
  })

  return app
}
