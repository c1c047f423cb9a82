/** One way of finding out who asks. */
export interface ContenderEntry {
  readonly name: string
  /** What it does for a request, in a few words. */
  readonly does: string
  /** Whether it answers with the user's row; else with what the token says. */
  readonly resolves: boolean
  /** How many times its share of a bare route the stack's must be; null for the stack itself. */
  readonly goal: number | null
}

/** The stack, and the peers that it is measured beside. The module of each is `contenders/<name>.js`. */
export const stack: ContenderEntry = { name: 'orientor', does: 'the whole stack', resolves: true, goal: null }
export const peers: readonly ContenderEntry[] = [
  { name: 'layered-loader', does: 'fast-jwt with its cache, user from layered-loader', resolves: true, goal: 1.4 },
  { name: 'async-cache-dedupe', does: 'fast-jwt with its cache, user from async-cache-dedupe', resolves: true, goal: 1.4 },
  { name: 'fastify-jwt', does: '@fastify/jwt with its cache, no user', resolves: false, goal: 2 },
  { name: 'jose', does: 'jose with remote keys, no user', resolves: false, goal: 4 },
  { name: 'clerk', does: '@clerk/fastify without network, no user', resolves: false, goal: 20 }
]
