import { requireSessionUser } from '@orientor/session-contract'
import type { FastifyInstance } from 'fastify'
import { publicAnswer, refusals, sessionAnswer } from './schemas.js'

const security = [{ session: [] }]

/** Routes that show who asks. They live in the scope of the plugins. */
export function sessionRoutes (app: FastifyInstance): void {
  app.get('/me', {
    config: { session: { required: true } },
    schema: { summary: 'The user behind the token; header x-session-stale: 1 when the user could not be refreshed', security, response: { 200: sessionAnswer, ...refusals } }
  }, (request, reply) => {
    reply.send({ user: requireSessionUser(request), outcome: request.sessionOutcome })
  })

  app.get('/me/fresh', {
    config: { session: { required: true, maxStalenessMs: 1000, onUnavailable: 'fail' } },
    schema: { summary: 'The same, never older than a second: 503 when that cannot be had', security, response: { 200: sessionAnswer, ...refusals } }
  }, (request, reply) => {
    reply.send({ user: requireSessionUser(request), outcome: request.sessionOutcome })
  })

  app.get('/public', {
    config: { session: { required: false } },
    schema: { summary: 'For everybody; says who asks when a token tells', response: { 200: publicAnswer } }
  }, (request, reply) => {
    reply.send({ message: 'This route is for everybody.', userId: request.sessionUser?.userId ?? null })
  })
}

const constant = Object.freeze({
  user: Object.freeze({
    userId: '1',
    issuer: 'https://clerk.orientor.example',
    subject: 'user_demo0000000000000000000000',
    email: 'ada@example.com',
    firstName: 'Ada',
    lastName: 'Lovelace',
    isActive: true,
    onboardingCompleted: false,
    providerUpdatedAt: 1_767_225_600_000,
    profile: Object.freeze({ imageUrl: 'https://img.clerk.com/default', username: null, publicMetadata: Object.freeze({}) })
  }),
  outcome: Object.freeze({ kind: 'user', stale: false, from: 'cache', cachedAtMs: 1_767_225_600_000, dbSynced: true, lastSyncedAtMs: 1_767_225_600_000 })
})

/** The yardstick: the shape of /me from a constant. It lives outside the scope of the plugins: their hook only looks whether it demands a session. */
export function bareRoute (app: FastifyInstance): void {
  app.get('/bare', { schema: { summary: 'The shape of /me from a constant, without any session plugin', response: { 200: sessionAnswer } } }, (_request, reply) => {
    reply.send(constant)
  })
}
