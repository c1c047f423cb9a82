import { createHash } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createIdentity } from '@orientor/session-contract/core'
import t from 'tap'
import { TokenCache } from '../src/token-cache.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function heapBytes (): number {
  collect()
  return process.memoryUsage().heapUsed
}

t.test('A token that is kept, and one that is asked for again, keeps nothing of the header line that it came in.', async t => {
  const identity = createIdentity({ issuer: 'https://issuer.test', subject: 'user_1' })
  const tokens = Array.from({ length: 200 }, (_, index) => `${index}.`.padEnd(100, 'x') + createHash('sha256').update(`${index}`).digest('base64url'))
  const lineLength = 100_000
  const fromHeader = (token: string): string => Buffer.from(`Bearer ${token}`.padStart(lineLength)).toString('latin1').slice(-token.length)
  // So many that all of them are in the older generation when they are asked for.
  const cache = new TokenCache(tokens.length)
  const before = heapBytes()
  for (const token of tokens) cache.set(fromHeader(token), { identity, fromMs: 0, untilMs: 1, key: { kind: 'key', trusted: true } })
  const found = (): number => tokens.filter(token => cache.get(fromHeader(token), 0) === identity).length
  for (const turn of [1, 2]) {
    t.equal(found(), tokens.length)
    const kept = heapBytes() - before
    t.ok(kept < tokens.length * lineLength / 4, `${kept} bytes, turn ${turn}`)
  }
})
