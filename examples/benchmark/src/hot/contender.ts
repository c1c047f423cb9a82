import type { FastifyInstance } from 'fastify'

/** What a contender is told of its world. */
export interface World {
  readonly databaseUrl: string
  readonly issuer: string
  readonly jwksUrl: string
  /** The issuer's one key, in PEM. */
  readonly publicKey: string
  readonly clerkApiUrl: string
  readonly clerkSecretKey: string
  /** How many users there are: memory has room for twice as many. */
  readonly users: number
}

/** Puts the route `/me`, which answers with a Reply to a good token and refuses others, into a scope of its own. */
export type Contender = (scope: FastifyInstance, world: World) => Promise<void>
