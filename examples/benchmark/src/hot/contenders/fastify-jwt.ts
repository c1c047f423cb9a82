import fastifyJwt from '@fastify/jwt'
import type { Contender } from '../contender.js'
import { emailOf, replySchema } from '../reply.js'

const contender: Contender = async (scope, { publicKey, issuer, users }) => {
  await scope.register(fastifyJwt, { secret: { public: publicKey }, verify: { algorithms: ['RS256'], allowedIss: issuer, cache: 2 * users } })
  scope.addHook('onRequest', async request => { await request.jwtVerify() })
  const email = emailOf(1)
  scope.get('/me', replySchema, (request, reply) => { reply.send({ id: (request.user as { sub: string }).sub, email }) })
}
export default contender
