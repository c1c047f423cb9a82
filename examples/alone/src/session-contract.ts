import Fastify, { type FastifyInstance } from 'fastify'
import { createIdentity, requireSessionUser, sessionHub, type UserRecord } from '@orientor/session-contract'

const issuer = 'https://id.example.com'
const ada = { userId: '1', issuer, subject: 'ada', email: 'ada@example.com', firstName: 'Ada', lastName: null, isActive: true, onboardingCompleted: true, providerUpdatedAt: null, profile: null } as const
const unknown: UserRecord = { kind: 'unknown', revision: 0 }
const known: UserRecord = { kind: 'active', user: ada, revision: 1, sync: 'skipped', lastSyncedAtMs: null, tokensValidFromMs: 0, revokedSessions: [] }

/** A service that brings its own authentication and its own users, and takes only the hub between them. */
export async function build (): Promise<FastifyInstance> {
  const app = Fastify()
  const hub = sessionHub(app)
  hub.fill('identify', 'my-auth', request => {
    const subject = request.headers['x-user']
    return typeof subject === 'string' ? createIdentity({ issuer, subject }) : { kind: 'anonymous' }
  })
  hub.fill('source', 'my-users', {
    load: batch => batch.map(async ({ subject }) => subject === 'ada' ? known : unknown)
  })
  app.get('/me', { config: { session: { required: true } } }, async request => requireSessionUser(request))
  return app
}
