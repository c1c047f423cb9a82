import { createCache } from 'async-cache-dedupe'
import type { Contender } from '../contender.js'
import { replySchema, type Reply } from '../reply.js'
import { claimsReader } from './fast-jwt.js'
import { userQuery } from './user-query.js'

declare module 'fastify' {
  interface FastifyRequest { row: Reply | null }
}

const contender: Contender = async (scope, world) => {
  const claimsOf = claimsReader(world)
  const cache = createCache({ ttl: 900, storage: { type: 'memory', options: { size: 2 * world.users } } }).define('user', userQuery(world.databaseUrl))
  scope.decorateRequest('row', null)
  scope.addHook('onRequest', (request, _reply, done) => {
    const { sub } = claimsOf(request.headers.authorization)
    cache.user(sub).then(row => {
      request.row = row
      done()
    }, done)
  })
  scope.get('/me', replySchema, (request, reply) => {
    const { id, email } = request.row!
    reply.send({ id, email })
  })
}
export default contender
