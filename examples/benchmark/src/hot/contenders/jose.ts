import { createRemoteJWKSet, jwtVerify } from 'jose'
import type { Contender } from '../contender.js'
import { emailOf, replySchema } from '../reply.js'

declare module 'fastify' {
  interface FastifyRequest { subject: string }
}

const contender: Contender = async (scope, { jwksUrl, issuer }) => {
  const keys = createRemoteJWKSet(new URL(jwksUrl))
  scope.decorateRequest('subject', '')
  scope.addHook('onRequest', async request => {
    const { payload } = await jwtVerify(request.headers.authorization?.slice('Bearer '.length) ?? '', keys, { issuer })
    request.subject = payload.sub!
  })
  const email = emailOf(1)
  scope.get('/me', replySchema, (request, reply) => { reply.send({ id: request.subject, email }) })
}
export default contender
