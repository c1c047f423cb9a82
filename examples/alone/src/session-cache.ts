import sessionCache from '@orientor/session-cache'
import { tableSource } from '@orientor/session-cache/postgres'
import { createIdentity, requireSessionUser, sessionHub, type PoolLike } from '@orientor/session-contract'
import { fastify, type FastifyInstance } from 'fastify'

const issuer = 'https://id.example.com'

declare module '@orientor/session-contract' {
  interface SessionExtra { plan: string, role: string | null }
}

/** A service with a table of users of its own, behind a gateway that has verified the caller. @param pool - a pg pool */
export async function build (pool: PoolLike): Promise<FastifyInstance> {
  const app = fastify()
  sessionHub(app).fill('identify', 'gateway', request => {
    const subject = request.headers['x-user']
    return typeof subject === 'string' ? createIdentity({ issuer, subject }) : { kind: 'anonymous' }
  })
  await app.register(sessionCache, {
    source: tableSource({
      pool,
      table: 'users',
      subject: 'auth_id',
      issuer: { always: issuer },
      columns: { userId: 'id', email: 'email', isActive: { always: true } },
      extra: ['plan', 'role']
    }),
    expireAfterMs: 60_000
  })

  app.get('/me', { config: { session: { required: true } } }, async request => requireSessionUser(request))
  app.get('/plan', { config: { session: { required: true } } }, async request => requireSessionUser(request).extra.plan)

  // Where a minute is too old: asks the table each time, and answers 503 rather than with a user from memory.
  const fresh = { required: true, maxStalenessMs: 0, onUnavailable: 'fail' } as const
  app.get('/me/fresh', { config: { session: fresh } }, async request => requireSessionUser(request))

  // Call it after a change of a user; the next request loads anew. For insiders only: guard it.
  app.delete<{ Params: { subject: string } }>('/cached/:subject', async request => ({
    known: app.sessionCache.invalidateUser({ issuer, subject: request.params.subject })
  }))

  return app
}
