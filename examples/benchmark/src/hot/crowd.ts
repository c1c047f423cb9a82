import type { Simulator } from '@orientor/clerk-simulator'
import { seeded } from '../measure/random.js'
import { zipf } from '../measure/zipf.js'
import { emailOf } from './reply.js'

/** Who asks: how many users, and how unevenly. */
export interface Crowd {
  readonly users: number
  /** 0: all alike. */
  readonly zipf: number
}

/** Users at the provider, and one token each. */
export interface Users {
  readonly tokens: readonly string[]
  /** Length of a token, in characters: the middle one. */
  readonly tokenLength: number
}

/** What an application with organisations has in its tokens besides what every token has; brings them to about 900 characters. */
const organisation = { o: { id: 'org_2fXjQvB7mWcN4tLrYs8KpD', rol: 'member', slg: 'a-company-with-a-name', fpm: '7,3' } }

/** Signs up so many users and gives each a token that outlives the run. */
export async function signUp (simulator: Simulator, count: number): Promise<Users> {
  const tokens: string[] = []
  for (let user = 0; user < count; user++) {
    const { id } = await simulator.createUser({ firstName: 'User', lastName: String(user), email: emailOf(user) })
    tokens.push(await simulator.mintToken({ userId: id, lifetimeSeconds: 7200, claims: organisation }))
  }
  return { tokens, tokenLength: tokens.map(({ length }) => length).sort((a, b) => a - b)[count >>> 1]! }
}

/** Draws users, the same in every run with the same seed; who is popular has nothing to do with who signed up first. */
export function drawing ({ users, zipf: exponent }: Crowd, seed: number): () => number {
  const random = seeded(seed)
  if (exponent === 0) return () => Math.floor(random() * users)
  const order = Uint32Array.from({ length: users }, (_, user) => user)
  for (let at = users - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1))
    const held = order[at]!
    order[at] = order[other]!
    order[other] = held
  }
  const rank = zipf(users, exponent, random)
  return () => order[rank()]!
}
