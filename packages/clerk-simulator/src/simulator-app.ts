import { randomBytes, randomInt } from 'node:crypto'
import fastifyJwt from '@fastify/jwt'
import fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { clerkId } from './clerk-id.js'
import { ClerkError, invalidParameter, notFound } from './clerk-error.js'
import { controlRoutes } from './control-routes.js'
import { answerInPlace } from './endpoint-fault.js'
import { isLoopback } from './loopback.js'
import { MovingRows } from './moving-rows.js'
import { RateLimit, type RateLimitOptions } from './rate-limit.js'
import { seededRandom } from './seeded-random.js'
import { createSigningKey } from './signing-key.js'
import { processClock, type SimulatorClock } from './simulator-clock.js'
import { Simulator } from './simulator.js'
import { usersRoutes } from './users-routes.js'

/** Options of the simulator. */
export interface SimulatorOptions {
  /** Default is the clock of this process. */
  readonly clock?: SimulatorClock
  /** `iss` of the tokens. Default is the origin at which the app listens. */
  readonly issuer?: string
  /** `azp` of the tokens. Default is `http://localhost:3000`. */
  readonly authorizedParty?: string
  /** Default is a new `sk_test_` key. */
  readonly secretKey?: string
  /** `whsec_` and base64 of at least 24 bytes. Default is a new one. */
  readonly webhookSecret?: string
  /**
   * The pauses after each failed attempt, before a webhook is sent again, in milliseconds. Default is none: each is sent
   * once.
   * Svix waits 5 s, 5 min, 30 min, 2, 5, 10 and 10 h.
   */
  readonly webhookRetryDelaysMs?: readonly number[]
  /** The number of events, messages and deliveries that are remembered, of each. Default is 1000. */
  readonly maxRemembered?: number
  /** A whole number that chance begins with. Default is another one each time; `simulator.seed` tells it. */
  readonly seed?: number
  /** Default is 1000 requests per 10 seconds. */
  readonly rateLimit?: RateLimitOptions
  /** Whether the app may listen where other machines can reach it. Default is false. */
  readonly allowRemote?: boolean
  /** Called with the app before it has routes: for hooks. */
  readonly prepare?: (app: FastifyInstance) => void
  /** Default is no logging. */
  readonly logger?: FastifyBaseLogger
}

/** A Fastify app that is the simulator; `simulator` is what stands behind its routes. */
export type ClerkSimulatorApp = FastifyInstance & { readonly simulator: Simulator }

/**
 * A Fastify app that speaks the shapes of Clerk. It does not listen yet.
 *
 * @throws when it is told to listen on an address that is not loopback, unless `allowRemote` is set
 */
export async function clerkSimulator (options: SimulatorOptions = {}): Promise<ClerkSimulatorApp> {
  const clock = options.clock ?? processClock
  const seed = options.seed ?? randomInt(2 ** 32)
  const key = await createSigningKey(clerkId('ins', clock.now()))
  const app: FastifyInstance = fastify({
    // A client may hold connections on which it has sent nothing yet: those are not idle to Node.js.
    forceCloseConnections: true,
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false } },
    ...options.logger !== undefined && { loggerInstance: options.logger }
  })
  if (options.allowRemote !== true) refuseRemote(app)
  options.prepare?.(app)
  await app.register(fastifyJwt, { secret: { private: key.privatePem, public: key.publicPem }, sign: { algorithm: 'RS256' } })

  const simulator = new Simulator({
    clock,
    key,
    sign: (claims, { kid, cat }, privatePem) => app.jwt.sign(claims, { key: privatePem, kid, header: { alg: 'RS256', cat }, noTimestamp: claims['iat'] === undefined }),
    secretKey: options.secretKey ?? `sk_test_${randomBytes(30).toString('base64url').replace(/[-_]/g, '0')}`,
    webhookSecret: options.webhookSecret ?? `whsec_${randomBytes(24).toString('base64')}`,
    webhookRetryDelaysMs: options.webhookRetryDelaysMs ?? [],
    maxRemembered: options.maxRemembered ?? 1000,
    seed,
    random: seededRandom(seed),
    authorizedParty: options.authorizedParty ?? 'http://localhost:3000',
    issuer: options.issuer,
    origin: () => {
      if (!app.server.listening) throw new Error('The simulator has no address yet. The rule: its origin is where it listens. Call listen() first, or set the option "issuer".')
      return app.listeningOrigin
    }
  })

  app.addHook('onRequest', async request => {
    if (request.routeOptions.url !== undefined) simulator.countRequest(`${request.method} ${request.routeOptions.url}`)
  })
  app.addHook('preClose', () => simulator.close())
  app.setErrorHandler<Error & { statusCode?: number }>((error, request, reply) => {
    const refusal = error instanceof ClerkError ? error : asRefusal(error)
    if (refusal === undefined) throw error
    if (refusal.retryAfterSeconds !== undefined) reply.header('retry-after', refusal.retryAfterSeconds)
    return reply.code(refusal.statusCode).send(refusal.toBody())
  })
  app.setNotFoundHandler((request, reply) => reply.code(404).send(notFound('route', request.url).toBody()))

  // A page in the developer's browser reaches loopback too: by a name that leads here, or with its own origin.
  if (options.allowRemote !== true) {
    app.addHook('onRequest', async request => {
      if (!isLoopback(request.hostname) || request.headers.origin !== undefined) throw invalidParameter('host', 'must be a loopback address, and the request must not come from a web page')
    })
  }

  app.get('/.well-known/jwks.json', { onRequest: answerInPlace(simulator.faults.jwks) }, () => simulator.jwks)
  const rateLimit = new RateLimit(clock, options.rateLimit)
  const movingRows = new MovingRows(seededRandom(seed))
  await app.register(usersRoutes, { prefix: '/v1', simulator, rateLimit, movingRows })
  await app.register(controlRoutes, { prefix: '/control', simulator })
  return Object.assign(app, { simulator })
}

/** Wraps a body that Fastify refuses (not JSON, not by the schema) in the shape of Clerk. */
function asRefusal (error: Error & { statusCode?: number }): ClerkError | undefined {
  if (error.statusCode === undefined || error.statusCode >= 500) return undefined
  return new ClerkError(error.statusCode, { message: 'is invalid', long_message: error.message, code: 'request_body_invalid' })
}

function refuseRemote (app: FastifyInstance): void {
  const listen = app.listen.bind(app) as (options?: { readonly host?: string }, ...rest: unknown[]) => Promise<string>
  const guarded = async (options?: { readonly host?: string }, ...rest: unknown[]): Promise<string> => {
    if (options?.host !== undefined && !isLoopback(options.host)) throw invalidParameter('host', 'must be a loopback address: /control/* is open to whoever reaches it. Set allowRemote to listen elsewhere')
    return await listen(options, ...rest)
  }
  app.listen = guarded as typeof app.listen
}
