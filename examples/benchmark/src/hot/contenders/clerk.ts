import { clerkPlugin, getAuth } from '@clerk/fastify'
import type { Contender } from '../contender.js'
import { emailOf, replySchema } from '../reply.js'

/** With the key at hand, so that nothing is fetched. */
const contender: Contender = async (scope, { publicKey, clerkSecretKey }) => {
  const publishableKey = `pk_test_${Buffer.from('clerk.example.com$').toString('base64')}`
  await scope.register(clerkPlugin, { jwtKey: publicKey, secretKey: clerkSecretKey, publishableKey })
  const email = emailOf(1)
  scope.get('/me', replySchema, (request, reply) => {
    const { userId } = getAuth(request)
    if (userId === null) throw Object.assign(new Error('Nobody is signed in'), { statusCode: 401 })
    reply.send({ id: userId, email })
  })
}
export default contender
