import type { FastifyError } from '@fastify/error'
import { problemDocument, sendProblem, SourceUnavailable } from '@orientor/session-contract'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { errors } from './errors.js'
import type { WebhookReceiver, WebhookResult } from './webhook-receiver.js'

/** Options of the route. */
export interface WebhookRoutesOptions {
  readonly path: string
  readonly maxBodyBytes: number
  readonly receiver: WebhookReceiver
}

/**
 * The route of webhooks, in a scope of its own: its parser hands over the bytes as they came, whatever parsers the app
 * has, and it asks for no session. To be registered without fastify-plugin.
 */
export const webhookRoutes: FastifyPluginAsync<WebhookRoutesOptions> = async (scope, options) => {
  const { path, maxBodyBytes, receiver } = options
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
  scope.setErrorHandler<FastifyError>((error, request, reply) => {
    const refusal = refusalOf(error, maxBodyBytes)
    // What hooks of the app throw is for its own error handler.
    if (refusal === null) throw error
    return answer(receiver.refuse(refusal), request, reply)
  })
  scope.post(path, { bodyLimit: maxBodyBytes, config: { session: false } }, async (request, reply) => {
    const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
    return answer(await receiver.receive(request.headers, body), request, reply)
  })
}

/** The refusal for an error of Fastify's own about the body; null for every other error. */
function refusalOf ({ code }: FastifyError, maxBodyBytes: number): FastifyError | null {
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE': return new errors.WebhookTooLarge(String(maxBodyBytes))
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE': return new errors.WebhookMediaType()
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH': return new errors.WebhookUnverified('its body was cut off')
    default: return null
  }
}

function answer (result: WebhookResult, { log }: FastifyRequest, reply: FastifyReply): FastifyReply {
  reply.header('cache-control', 'no-store')
  switch (result.kind) {
    case 'ignored': return reply.code(204).send()
    case 'applied': case 'dead_lettered': return reply.send({ outcome: result.outcome })
    case 'refused':
      log.warn({ code: result.error.code, ...result.details }, result.error.message)
      return problem(result.error, reply)
    case 'not_stored':
      // An outage passes; anything else is for an operator.
      log[result.error.cause instanceof SourceUnavailable ? 'warn' : 'error'](
        { err: result.error }, 'a webhook could not be stored; its sender is asked to send it again'
      )
      reply.header('retry-after', String(Math.max(1, Math.ceil(result.retryAfterMs / 1000))))
      return problem(result.error, reply)
  }
}

function problem ({ statusCode = 500, code, message }: FastifyError, reply: FastifyReply): FastifyReply {
  return sendProblem(reply, problemDocument(statusCode, code, message))
}
