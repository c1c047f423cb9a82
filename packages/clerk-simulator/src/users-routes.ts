import type { FastifyInstance } from 'fastify'
import { malformedAuthorization, wrongSecretKey } from './clerk-error.js'
import { answerInPlace } from './endpoint-fault.js'
import type { MovingRows } from './moving-rows.js'
import type { RateLimit } from './rate-limit.js'
import type { Simulator } from './simulator.js'
import type { Query } from './user-query.js'

/** What the Backend API needs. */
export interface BackendApi {
  readonly simulator: Simulator
  readonly rateLimit: RateLimit
  /** The rows as they are seen while the fault of the users is `inconsistent`. */
  readonly movingRows: MovingRows
}

/** The Backend API: `GET /jwks`, `/users`, `/users/count` and `/users/:id`, each with the secret key as bearer. */
export async function usersRoutes (app: FastifyInstance, api: BackendApi): Promise<void> {
  const { simulator, rateLimit, movingRows } = api
  app.addHook('onRequest', async request => {
    const bearer = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1]
    if (bearer === undefined) throw malformedAuthorization()
    if (bearer !== simulator.secretKey) throw wrongSecretKey()
  })

  app.get('/jwks', { onRequest: answerInPlace(simulator.faults.jwks) }, () => simulator.jwks)

  app.register(async limited => {
    limited.addHook('onRequest', answerInPlace(simulator.faults.users))
    limited.addHook('onRequest', async () => { rateLimit.take() })
    const isMoving = (): boolean => simulator.faults.users.fault?.kind === 'inconsistent'
    limited.get<{ Querystring: Query }>('/users', request => {
      return simulator.listUsers(request.query, isMoving() ? movingRows.shift() : 0)
    })
    limited.get<{ Querystring: Query }>('/users/count', request => {
      const total = simulator.countUsers(request.query)
      return { object: 'total_count', total_count: isMoving() ? movingRows.count(total) : total }
    })
    limited.get<{ Params: { id: string } }>('/users/:id', request => simulator.getUser(request.params.id))
  })
}
