import type { Slots } from '@orientor/session-contract'

/** Who a request comes from, by the application's own authentication. Must not throw for what a client can send. */
export type Identify = NonNullable<Slots['identify']>

/** A request of Fastify. */
export type IdentifiableRequest = Parameters<Identify>[0]
