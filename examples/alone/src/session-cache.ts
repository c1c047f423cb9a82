import sessionCache from '@orientor/session-cache'
import { createIdentity, requireSessionUser, sessionHub, type UserSource } from '@orientor/session-contract'
import { fastify, type FastifyInstance } from 'fastify'

const issuer = 'https://id.example.com'

/** A service behind a gateway that has verified the user. @param source - where users come from: a table, a directory, another service */
export async function build (source: UserSource): Promise<FastifyInstance> {
  const app = fastify()
  sessionHub(app).fill('identify', 'gateway', request => {
    const subject = request.headers['x-user']
    return typeof subject === 'string' ? createIdentity({ issuer, subject }) : { kind: 'anonymous' }
  })
  await app.register(sessionCache, { source, expireAfterMs: 60_000 })

  app.get('/me', { config: { session: { required: true } } }, async request => requireSessionUser(request))

  // Where a minute is too old: asks the source each time, and answers 503 rather than with a user from memory.
  app.get('/me/fresh', { config: { session: { required: true, maxStalenessMs: 0, onUnavailable: 'fail' } } }, async request => requireSessionUser(request))

  // Whoever changes a user says so; the next request loads anew. For insiders only: guard it.
  app.delete<{ Params: { subject: string } }>('/cached/:subject', async request => ({
    known: app.sessionCache.invalidateUser({ issuer, subject: request.params.subject })
  }))

  return app
}
