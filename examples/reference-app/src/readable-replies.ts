import type { FastifyInstance } from 'fastify'
import { readableJson } from './readable-json.js'

/**
 * Lays out the JSON replies of an app, and of the scopes that are registered afterwards, for people who read them in a terminal, and ends them with a newline.
 * Each reply is parsed and written anew: for a demonstration, not for a service.
 */
export function readableReplies (app: FastifyInstance): void {
  app.addHook('onSend', (_request, reply, payload, done) => {
    const isJson = typeof payload === 'string' && /^application\/(\w+\+)?json\b/.test(String(reply.getHeader('content-type')))
    done(null, isJson ? `${readableJson(JSON.parse(payload))}\n` : payload)
  })
}
