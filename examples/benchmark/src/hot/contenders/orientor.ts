import { adminKey, perfRoutes } from '@orientor/perf-routes'
import { poolTuning } from '@orientor/pool-tuning'
import { sessionCache } from '@orientor/session-cache'
import { requireSessionUser } from '@orientor/session-contract'
import { sessionIdentity } from '@orientor/session-identity'
import { smartSync } from '@orientor/smart-sync'
import type { Contender } from '../contender.js'
import { replySchema } from '../reply.js'

/** Every plugin, with its defaults but for the room in memory and what the simulated provider takes. */
const contender: Contender = async (scope, { databaseUrl, issuer, jwksUrl, clerkApiUrl, clerkSecretKey, users }) => {
  scope.register(sessionIdentity, { issuer, jwksUrl, maxTokens: 4 * users })
  scope.register(sessionCache, { maxEntries: 2 * users })
  const quota = { maxRequests: 100_000 }
  scope.register(smartSync, { clerk: { secretKey: clerkSecretKey, apiUrl: clerkApiUrl, issuer, quota } })
  scope.register(poolTuning, { connectionString: databaseUrl })
  scope.register(perfRoutes, { authorize: adminKey('benchmark-admin-key-of-32-characters'), issuer })
  scope.get('/me', { config: { session: { required: true } }, ...replySchema }, (request, reply) => {
    const { userId, email } = requireSessionUser(request)
    reply.send({ id: userId, email })
  })
}
export default contender
