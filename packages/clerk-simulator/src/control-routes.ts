import type { FastifyInstance } from 'fastify'
import type { NewUserInput, UserInput } from './clerk-user.js'
import { faultKinds } from './endpoint-fault.js'
import type { RotationInput } from './key-ring.js'
import type { MintInput, SignOutInput, Simulator } from './simulator.js'
import type { WebhookEndpointInput } from './webhook-sender.js'

interface OfUser { Params: { id: string } }

const text = { type: 'string', minLength: 1 }
const nullableText = { type: ['string', 'null'] }
const anything = { type: 'object' }
const instant = { type: 'integer', minimum: 0 }

const userProperties = {
  firstName: nullableText,
  lastName: nullableText,
  username: nullableText,
  locale: nullableText,
  externalId: nullableText,
  imageUrl: nullableText,
  email: nullableText,
  emailVerified: { type: 'boolean' },
  otherEmails: { type: 'array', items: text },
  publicMetadata: anything,
  privateMetadata: anything,
  unsafeMetadata: anything,
  locked: { type: 'boolean' },
  updatedAt: instant
}

function body (properties: Readonly<Record<string, object>>, required: readonly string[] = []): { readonly schema: { readonly body: object } } {
  return { schema: { body: { type: 'object', additionalProperties: false, properties, required } } }
}

const newUser = body({ ...userProperties, id: text, createdAt: instant })
const changes = body(userProperties)
const session = body({ userId: text }, ['userId'])
const signOut = body({ userId: text, sessionId: text, how: { enum: ['ended', 'removed', 'revoked'] } }, ['userId'])
const token = body({ userId: text, sessionId: text, lifetimeSeconds: { type: 'integer' }, kid: text, claims: anything }, ['userId'])
const rotation = body({ kid: text, overlap: { type: 'boolean' } })
const endpointFault = (kinds: readonly string[]): { readonly schema: { readonly body: object } } => ({
  schema: {
    body: {
      type: 'object',
      additionalProperties: false,
      properties: {
        kind: { enum: kinds },
        delayMs: instant,
        status: { type: 'integer', minimum: 200, maximum: 599 },
        retryAfterSeconds: instant,
        bytes: instant,
        gzip: { type: 'boolean' },
        location: text
      },
      required: ['kind'],
      allOf: [['slow', 'delayMs'], ['status', 'status'], ['huge', 'bytes'], ['redirect', 'location']]
        .map(([kind, needed]) => ({ if: { properties: { kind: { const: kind } } }, then: { required: [needed] } }))
    }
  }
})
const number = { type: 'number' }
const webhookFault = body({
  dropRatio: number,
  duplicateRatio: number,
  reorderWithin: number,
  delayMs: number,
  secret: text,
  secretRatio: number,
  maxInFlight: number
})
const endpoint = body({ url: text, secret: text, events: { type: 'array', items: text } }, ['url'])

interface Settable<Fault> { set (fault: Fault | null): void }

/** PUT and DELETE of what goes wrong somewhere. */
function faultRoutes<Fault> (app: FastifyInstance, path: string, schema: object, faults: Settable<Fault>): void {
  app.put<{ Body: Fault }>(path, schema, request => {
    faults.set(request.body as Fault)
    return request.body
  })
  app.delete(path, async (_request, reply) => {
    faults.set(null)
    return reply.code(204).send()
  })
}

/** `/control/*`: the programmatic API of the simulator over HTTP, with the same names for what goes in. */
export async function controlRoutes (app: FastifyInstance, { simulator }: { readonly simulator: Simulator }): Promise<void> {
  app.get('/instance', () => ({
    instanceId: simulator.instanceId,
    issuer: simulator.issuer,
    jwksUrl: simulator.jwksUrl,
    apiUrl: simulator.apiUrl,
    secretKey: simulator.secretKey,
    webhookSecret: simulator.webhookSecret,
    seed: simulator.seed
  }))
  app.get('/request-counts', () => simulator.requestCounts)

  app.post<{ Body: NewUserInput }>('/users', newUser, async (request, reply) => reply.code(201).send(await simulator.createUser(request.body)))
  app.patch<OfUser & { Body: UserInput }>('/users/:id', changes, request => simulator.updateUser(request.params.id, request.body))
  app.post<OfUser>('/users/:id/ban', request => simulator.banUser(request.params.id))
  app.post<OfUser>('/users/:id/unban', request => simulator.unbanUser(request.params.id))
  app.delete<OfUser>('/users/:id', async (request, reply) => {
    await simulator.deleteUser(request.params.id)
    return reply.code(204).send()
  })

  app.post<{ Body: { userId: string } }>('/sessions', session, async (request, reply) => reply.code(201).send(await simulator.createSession(request.body.userId)))
  app.post<{ Body: SignOutInput }>('/sign-out', signOut, request => simulator.signOut(request.body))
  app.post<{ Body: MintInput }>('/tokens', token, async (request, reply) => reply.code(201).send({ token: await simulator.mintToken(request.body) }))

  app.post<{ Body: RotationInput | undefined }>('/keys', rotation, async (request, reply) => reply.code(201).send({ kid: await simulator.rotateKey(request.body) }))
  app.delete<OfUser>('/keys/:id', async (request, reply) => {
    await simulator.withdrawKey(request.params.id)
    return reply.code(204).send()
  })

  const { jwks, users, webhooks } = simulator.faults
  app.get('/faults', () => ({ jwks: jwks.fault, users: users.fault, webhooks: webhooks.fault }))
  faultRoutes(app, '/faults/jwks', endpointFault(faultKinds), jwks)
  faultRoutes(app, '/faults/users', endpointFault([...faultKinds, 'inconsistent']), users)
  faultRoutes(app, '/faults/webhooks', webhookFault, webhooks)

  app.post<{ Body: WebhookEndpointInput }>('/webhook-endpoints', endpoint, async (request, reply) => reply.code(201).send(await simulator.addWebhookEndpoint(request.body)))
  app.delete<OfUser>('/webhook-endpoints/:id', async (request, reply) => {
    await simulator.removeWebhookEndpoint(request.params.id)
    return reply.code(204).send()
  })
  app.get('/events', () => simulator.events)
  app.get('/deliveries', () => simulator.deliveries())
  app.post<OfUser>('/deliveries/:id/redeliver', request => simulator.redeliver(request.params.id))
}
