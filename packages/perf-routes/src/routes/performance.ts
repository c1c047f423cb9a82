import type { FastifyInstance } from 'fastify'
import type { PerformanceMonitor } from '../performance-monitor.js'
import { integer, integerOrNull, list, number, numberOrNull, object, orNull, problems, rating, text } from './response-schemas.js'

const cacheLayer = orNull(object({
  hits: integerOrNull,
  misses: integerOrNull,
  hitRatio: numberOrNull,
  entries: integerOrNull,
  evictions: integerOrNull,
  invalidations: integerOrNull
}))

const times = object({
  count: integer,
  averageMs: numberOrNull,
  p50Ms: numberOrNull,
  p95Ms: numberOrNull,
  p99Ms: numberOrNull,
  maxMs: numberOrNull,
  buckets: list(object({ upToMs: numberOrNull, count: integer }))
})

const report = object({
  generatedAtMs: integer,
  observedForMs: integer,
  rating,
  ratingBasis: object({ minSamples: integer, minTargets: integer, judgedTargets: integer, missingSamples: integerOrNull }),
  targets: list(object({
    name: text,
    value: numberOrNull,
    samples: integerOrNull,
    target: number,
    missingSamples: integerOrNull,
    met: { type: ['boolean', 'null'] }
  })),
  databaseLoad: object({
    authentications: integerOrNull,
    statements: integerOrNull,
    statementsFrom: { type: ['string', 'null'], enum: ['counted', 'estimated', null] },
    statementsPerAuthentication: numberOrNull,
    baselineStatementsPerAuthentication: number,
    reductionRatio: numberOrNull
  }),
  cacheLayers: object({ verifiedTokens: cacheLayer, sessions: cacheLayer }),
  databaseSync: orNull(object({
    attempts: integerOrNull,
    performed: integerOrNull,
    skipped: integerOrNull,
    errors: integerOrNull,
    profileCreates: integerOrNull,
    skipRatio: numberOrNull
  })),
  connectionPool: orNull(object({
    total: integerOrNull,
    idle: integerOrNull,
    active: integerOrNull,
    waiting: integerOrNull,
    size: integerOrNull,
    maxOverflow: integerOrNull,
    checkouts: integerOrNull,
    utilisationRatio: numberOrNull,
    efficiencyRatio: numberOrNull
  })),
  responses: object({ count: integer, serverErrors: integer, reliabilityRatio: numberOrNull, times, cacheHitTimes: times }),
  refusedAccesses: integer,
  components: { type: 'object', additionalProperties: { type: 'object', additionalProperties: number } },
  history: list(object({
    atMs: integer,
    responses: integer,
    averageMs: numberOrNull,
    serverErrors: integer,
    cacheHitRatio: numberOrNull,
    syncSkipRatio: numberOrNull,
    statementsPerAuthentication: numberOrNull,
    poolUtilisationRatio: numberOrNull
  }))
}, { description: 'How the service performs' })

/** `GET /performance`: the whole report. */
export function performanceRoute (fastify: FastifyInstance, monitor: PerformanceMonitor): void {
  fastify.get('/performance', {
    config: { session: false },
    schema: { summary: 'How the service performs since it started', tags: ['database'], response: { 200: report, ...problems } }
  }, () => monitor.performance())
}
