import type { Identity, Sync, Unresolved } from '@orientor/session-contract/core'
import type { FastifyRequest } from 'fastify'

/** Who a request comes from, by the application's own authentication. Must not throw for what a client can send. */
export type Identify = (request: FastifyRequest) => Sync<Identity | Unresolved>
