import Fastify, { type FastifyInstance } from 'fastify'
import { createIdentity, requireSessionUser, sessionHub } from '@orientor/session-contract'
import { smartSync, type PoolLike } from '@orientor/smart-sync'

const issuer = 'https://id.example.com'

/** A service behind a gateway that has verified the user. The users table is made at the start, a user's row at the first request. */
export async function build (pool: PoolLike): Promise<FastifyInstance> {
  const app = Fastify()
  sessionHub(app).fill('identify', 'gateway', request => {
    const { 'x-user': subject, 'x-email': email } = request.headers
    return typeof subject === 'string' ? createIdentity({ issuer, subject, claims: { email } }) : { kind: 'anonymous' }
  })
  await app.register(smartSync, { pool })
  app.get('/me', { config: { session: { required: true } } }, async request => requireSessionUser(request))
  return app
}
