import type { FastifyInstance } from 'fastify'
import type { PerformanceMonitor } from '../performance-monitor.js'
import { integer, numberOrNull, object, problems, rating, text } from './response-schemas.js'

const report = object({
  status: { type: 'string', enum: ['healthy', 'degraded', 'unhealthy'] },
  components: {
    type: 'object',
    additionalProperties: object({ status: { type: 'string', enum: ['healthy', 'degraded', 'unhealthy', 'absent'] }, reason: text, checkedAtMs: integer })
  },
  performanceSummary: object({
    rating,
    databaseLoadReductionRatio: numberOrNull,
    cacheHitRatio: numberOrNull,
    syncSkipRatio: numberOrNull,
    poolUtilisationRatio: numberOrNull,
    averageResponseMs: numberOrNull
  })
})

/** `GET /health`: 200 when healthy or degraded, 503 when a component is unhealthy; the same body each time. */
export function healthRoute (fastify: FastifyInstance, monitor: PerformanceMonitor): void {
  fastify.get('/health', {
    config: { session: false },
    schema: {
      summary: 'How the components do',
      tags: ['database'],
      response: {
        200: { ...report, description: 'Healthy or degraded' },
        503: { ...report, description: 'A component is unhealthy' },
        ...problems
      }
    }
  }, async (_request, reply) => {
    const health = await monitor.health()
    return reply.code(health.status === 'unhealthy' ? 503 : 200).send(health)
  })
}
