import sessionIdentity from '@orientor/session-identity'
import { fastify, type FastifyInstance } from 'fastify'

/** @param issuer - the `iss` of your tokens, such as https://clerk.example.com; its keys are found by OpenID discovery */
export async function build (issuer: string): Promise<FastifyInstance> {
  const app = fastify()
  await app.register(sessionIdentity, { issuer })

  // 401 without a good token; the claims are verified and frozen.
  app.get('/whoami', { config: { session: { required: true } } }, request => ({
    subject: request.identity?.subject,
    sessionId: request.identity?.sessionId
  }))

  // A route without required: true serves every request; request.identity says who sent it, or null.
  app.get('/greeting', request => ({ greeting: request.identity === null ? 'Hello' : 'Hello again' }))

  return app
}
