import { Loader } from 'layered-loader'
import type { Contender } from '../contender.js'
import { replySchema, type Reply } from '../reply.js'
import { claimsReader } from './fast-jwt.js'
import { userQuery } from './user-query.js'

declare module 'fastify' {
  interface FastifyRequest { row: Reply | null }
}

/** A hit is read synchronously, the quickest way that the library has. */
const contender: Contender = async (scope, world) => {
  const claimsOf = claimsReader(world)
  const query = userQuery(world.databaseUrl)
  const loader = new Loader<Reply | null, string>({
    inMemoryCache: { cacheType: 'lru-object', ttlInMsecs: 900_000, maxItems: 2 * world.users },
    dataSources: [{ name: 'users', get: query, getMany: async subjects => await Promise.all(subjects.map(query)) as Reply[] }]
  })
  scope.decorateRequest('row', null)
  scope.addHook('onRequest', (request, _reply, done) => {
    const { sub } = claimsOf(request.headers.authorization)
    const known = loader.getInMemoryOnly(sub)
    if (known !== undefined) {
      request.row = known
      done()
      return
    }
    loader.get(sub).then(loaded => {
      request.row = loaded ?? null
      done()
    }, done)
  })
  scope.get('/me', replySchema, (request, reply) => {
    const { id, email } = request.row!
    reply.send({ id, email })
  })
}
export default contender
