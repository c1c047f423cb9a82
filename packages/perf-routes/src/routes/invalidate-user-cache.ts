import { sessionKeyHash } from '@orientor/session-contract/core'
import type { FastifyInstance } from 'fastify'
import { readInvalidation, type Invalidation } from '../invalidation.js'
import type { PerformanceMonitor } from '../performance-monitor.js'
import { integerOrNull, object, problems, type Schema } from './response-schemas.js'

/** What readInvalidation() accepts, for the documentation. */
function bodySchema (issuerRequired: boolean): Schema {
  const reason = { type: 'string', minLength: 1, maxLength: 200 }
  return {
    description: 'One user, or all',
    oneOf: [
      {
        type: 'object',
        required: issuerRequired ? ['issuer', 'subject'] : ['subject'],
        additionalProperties: false,
        properties: { issuer: { type: 'string' }, subject: { type: 'string', minLength: 1, maxLength: 255 }, reason }
      },
      { type: 'object', required: ['all'], additionalProperties: false, properties: { all: { type: 'boolean', enum: [true] }, reason } }
    ]
  }
}

/**
 * `POST /invalidate-user-cache`: what is known of one user, or of all, is forgotten.
 *
 * @param issuer - of users that are named by their subject only; null: it must be sent
 */
export function invalidateUserCacheRoute (fastify: FastifyInstance, monitor: PerformanceMonitor, issuer: string | null): void {
  const schema = {
    summary: 'Forget what is known of one user, or of all',
    tags: ['database'],
    body: bodySchema(issuer === null),
    response: {
      200: object({ invalidated: { type: 'boolean' }, instances: integerOrNull }, { description: 'Every cache was told; `instances`: how many, null when that cannot be known' }),
      ...problems
    }
  }
  fastify.post<{ Body: Invalidation }>('/invalidate-user-cache', {
    config: { session: false },
    bodyLimit: 8192,
    schema,
    validatorCompiler: () => body => {
      try {
        return { value: readInvalidation(body, issuer) }
      } catch (error) {
        return { error: error as Error }
      }
    }
  }, async request => {
    const { target } = request.body
    const instances = await monitor.invalidate(request.body)
    request.log.info({ target: target === 'all' ? target : sessionKeyHash(target.key), instances }, 'user cache invalidated')
    return { invalidated: true, instances }
  })
}
