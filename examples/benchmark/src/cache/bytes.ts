import { defaultRouteSession, type Identity } from '@orientor/session-contract/core'
import { TokenVerifier, resolveOptions } from '@orientor/session-identity/core'
import { contenders, type ContenderName } from './contenders.js'
import { hashesOf, identityOf, issuer, recordOf, subjectOf, tokenOf } from './population.js'
import { Product } from './product.js'

/** Bytes of heap per user, as differences after forced collections. */
export interface Bytes {
  /** A record of 15 fields by itself. */
  readonly row: number
  /** All that the cache keeps per user: row, key, hash, entry, index. */
  readonly session: number
  /** All that is kept per verified token: the token of about 900 characters, 15 claims, identity, index. */
  readonly token: number
  /** A session and one token of the user. */
  readonly together: number
}

/** What one of the parts keeps of `count` users; runs in a process of its own. */
export async function bytesPer (what: keyof Bytes, count: number): Promise<number> {
  const nowMs = Date.now()
  const verifier = (): TokenVerifier => new TokenVerifier({
    policies: resolveOptions({ issuer }).issuers.map(({ rules }) => ({ rules, signature: () => () => signer })),
    clock: { now: () => nowMs, monotonic: () => 0, setTimer: () => ({ cancel () {} }) },
    // Twice the room, so that no generation of quick-lru is full.
    maxTokens: count * 2,
    recheckAfterMs: 900_000,
    updatedAtClaim: ['updated_at']
  })
  const signer = { kind: 'key', trusted: true } as const
  const identify = (tokens: TokenVerifier, user: number): Identity => tokens.identify(tokenOf(user, nowMs)) as Identity
  const fill = {
    row: () => Array.from({ length: count }, (_, user) => recordOf({ subject: subjectOf(user) })),
    session: async () => {
      const product = new Product(count)
      await product.signIn(count, identityOf)
      return product
    },
    token: () => {
      const tokens = verifier()
      for (let user = 0; user < count; user++) identify(tokens, user)
      return tokens
    },
    together: async () => {
      const tokens = verifier()
      const product = new Product(count)
      await product.signIn(count, user => identify(tokens, user))
      // Each token remembers its session from its first hit on.
      for (let user = 0; user < count; user++) await product.manager.resolve(identify(tokens, user), defaultRouteSession)
      return { tokens, product }
    }
  } as const
  return await grown(fill[what], count)
}

/** What a store adds per entry to keys and a value that are there already. */
export async function bytesPerEntry (name: ContenderName, count: number): Promise<number> {
  const keys = hashesOf(count)
  return await grown(() => {
    const store = contenders[name](name === 'quick-lru' ? count * 2 : count)
    for (const key of keys) store.set(key)
    return { store, keys }
  }, count)
}

async function grown (fill: () => unknown, count: number): Promise<number> {
  const before = await heapBytes()
  const kept = await fill()
  const after = await heapBytes()
  // Used here, so that it is alive until here.
  if (kept === undefined) throw new Error('Nothing was kept')
  return (after - before) / count
}

async function heapBytes (): Promise<number> {
  if (globalThis.gc === undefined) throw new Error('Bytes are measured under node --expose-gc')
  for (let turn = 0; turn < 5; turn++) {
    globalThis.gc()
    await new Promise(resolve => { setImmediate(resolve) })
  }
  return process.memoryUsage().heapUsed
}
