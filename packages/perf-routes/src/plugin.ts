import { sendProblem, sessionHub } from '@orientor/session-contract'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { guard } from './guard.js'
import type { HealthReport } from './health-report.js'
import { owner, resolveOptions, type PerfRoutesOptions, type ResolvedPerfRoutesOptions } from './options.js'
import { PerformanceMonitor } from './performance-monitor.js'
import type { PerformanceReport } from './performance-report.js'
import { problemOf } from './problem.js'
import { healthRoute } from './routes/health.js'
import { invalidateUserCacheRoute } from './routes/invalidate-user-cache.js'
import { performanceRoute } from './routes/performance.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** What the monitoring routes of this scope tell, for code. */
    perfRoutes: PerfRoutes
  }
}

/** What `fastify.perfRoutes` offers. */
export interface PerfRoutes {
  /** How the service performs since it started. Never throws. */
  performance (): PerformanceReport
  /** How the components do; each is waited for 2 seconds at most. Never rejects. */
  health (): Promise<HealthReport>
}

const arrivedAt = Symbol('@orientor/perf-routes/arrived-at')
const notMeasured = -1
type Measured = FastifyRequest & { [arrivedAt]?: number }
type Options = ResolvedPerfRoutesOptions<FastifyRequest>

const plugin: FastifyPluginAsync<PerfRoutesOptions<FastifyRequest>> = async (fastify, input) => {
  const options: Options = resolveOptions(input)
  const hub = sessionHub(fastify)
  const monitor = new PerformanceMonitor({
    components: () => hub.components,
    clock: options.clock,
    onFailure: (component, error) => { fastify.log.warn({ err: error, component }, 'health check failed') }
  })
  let own: FastifyInstance | null = null

  fastify.decorate('perfRoutes', Object.freeze<PerfRoutes>({ performance: () => monitor.performance(), health: async () => await monitor.health() }))
  // Not onResponse: for that Fastify listens to every response's end, which costs more than all else that a session adds to a request.
  fastify.decorateRequest(arrivedAt, notMeasured)
  fastify.addHook('onRequest', (request: Measured, _reply, done) => {
    request[arrivedAt] = options.clock.monotonic()
    done()
  })
  fastify.addHook('onSend', function (request: Measured, reply, _payload, done) {
    const arrivedAtMs = request[arrivedAt]!
    if (this !== own && arrivedAtMs !== notMeasured) {
      const outcome = request.sessionOutcome
      // A hook that fails later has the answer sent again, as an error.
      request[arrivedAt] = notMeasured
      monitor.responded(options.clock.monotonic() - arrivedAtMs, reply.statusCode, outcome !== null && outcome.kind === 'user' && outcome.from === 'cache')
    }
    done()
  })
  fastify.addHook('onReady', async () => { monitor.start() })
  fastify.addHook('onClose', async () => { monitor.stop() })

  // A scope of its own: neither the guard nor the rules for bodies and errors reach the rest of the application.
  await fastify.register(async scope => {
    own = scope
    guardScope(scope, options, monitor)
    answerInProblems(scope)
    performanceRoute(scope, monitor)
    healthRoute(scope, monitor)
    invalidateUserCacheRoute(scope, monitor, options.issuer)
  }, { prefix: options.prefix })
}

function guardScope (scope: FastifyInstance, { authorize }: Options, monitor: PerformanceMonitor): void {
  if (authorize === false) scope.log.warn(`${owner}: the routes under ${scope.prefix} are open, as authorize is false`)
  scope.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store')
    if (authorize === false) return
    try {
      await guard(authorize, request)
    } catch (error) {
      if (authorize.challenge !== undefined) reply.header('www-authenticate', authorize.challenge)
      request.log.warn({ refusedAccesses: monitor.refused() }, 'access to a monitoring route was refused')
      throw error
    }
  })
}

/** Bodies are JSON and nothing else, whatever the application reads elsewhere; errors are problem documents. */
function answerInProblems (scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/json', { parseAs: 'string' }, scope.getDefaultJsonParser('error', 'error'))
  scope.setErrorHandler((error, request, reply) => {
    const problem = problemOf(error, request.id)
    if (problem.status >= 500) request.log.error({ err: error }, 'a monitoring route failed')
    return sendProblem(reply, problem)
  })
}

/**
 * Guarded routes under `/database`: performance, health and cache management. Decorates `fastify.perfRoutes`.
 *
 * @throws ORI_PERF_NO_GUARD or ORI_CONTRACT_INVALID_OPTION at registration
 */
export const perfRoutes: FastifyPluginAsync<PerfRoutesOptions<FastifyRequest>> = fp(plugin, { name: owner, fastify: '5.x' })
export default perfRoutes
