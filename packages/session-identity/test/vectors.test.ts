import type { JWK } from 'jose'
import t from 'tap'
import { ManualClock } from '@orientor/test-kit'
import { headerFlaw } from '../src/claims.js'
import { TokenVerifier, resolveOptions, trustedIssuers, type ParsedToken, type ResolvedIssuer, type SignerOf } from '../src/core.js'
import { JwksSource } from '../src/jwks-source.js'
import { checkByJwks } from '../src/signature-check.js'
import { parseToken } from '../src/parsed-token.js'
import { publishedRefusals, publishedVectors } from './fixtures/published-vectors.js'

const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'] as const

const [{ rules }] = resolveOptions({ issuer: 'https://id.example.com', algorithms }).issuers as [ResolvedIssuer]

/** The check of signatures alone, with one published key, fetched whenever it does not fit: the payloads of the standards are no claims. */
function signatureCheckBy (jwk: JWK): (token: ParsedToken) => ReturnType<SignerOf> {
  const location = { jwksUrl: 'https://id.example.com' }
  const signerOf = checkByJwks(new JwksSource({ location, algorithms, cooldownMs: 0, fetch: async () => Response.json({ keys: [jwk] }), clock: new ManualClock() }))()
  return token => signerOf(token, 'load')
}

function tokenOf (jws: string): ParsedToken {
  return { kind: 'token', text: jws, header: JSON.parse(Buffer.from(jws.split('.')[0]!, 'base64url').toString()) as Record<string, unknown>, claims: {} }
}

/** The same bytes but for one bit, encoded anew. */
function withBitFlipped (jws: string, part: 1 | 2, bit: number): string {
  const parts = jws.split('.')
  const bytes = Buffer.from(parts[part]!, 'base64url')
  bytes[bit >> 3]! ^= 1 << (bit & 7)
  return parts.map((text, at) => at === part ? bytes.toString('base64url') : text).join('.')
}

t.test('Each signed example of the standards is accepted with its key, and by no other.', async t => {
  for (const { name, jwk, jws } of publishedVectors) {
    t.match(await signatureCheckBy(jwk)(tokenOf(jws)), { kind: 'key', trusted: true }, name)
    for (const other of publishedVectors) {
      if (other.jwk.x === jwk.x && other.jwk.n === jwk.n) continue
      t.match(await signatureCheckBy({ ...other.jwk, ...jwk.kid !== undefined && { kid: jwk.kid } })(tokenOf(jws)), { kind: 'refused' }, `${name} with the key of ${other.name}`)
    }
  }
})

t.test('One bit of payload or signature makes each example worthless.', async t => {
  for (const { name, jwk, jws } of publishedVectors) {
    const check = signatureCheckBy(jwk)
    const accepted: string[] = []
    for (const part of [1, 2] as const) {
      const bits = Buffer.from(jws.split('.')[part]!, 'base64url').length * 8
      for (let bit = 0; bit < bits; bit += Math.max(1, bits >> 5)) {
        if ((await check(tokenOf(withBitFlipped(jws, part, bit)))).kind !== 'refused') accepted.push(`${part}/${bit}`)
      }
    }
    t.same(accepted, [], name)
  }
})

t.test('Examples with shared secrets, without a signature, detached or with an unencoded payload are refused, even if their key is published.', async t => {
  for (const { name, jwk, jws } of publishedRefusals) {
    t.not(headerFlaw(tokenOf(jws).header, rules), null, `${name}: by its header`)
    t.not((await signatureCheckBy(jwk)(tokenOf(jws))).kind, 'key', `${name}: by its signature`)
  }
})

t.test('As a whole none of the examples is a token: their payloads are no claims, or name nobody and have expired.', async t => {
  for (const { name, jwk, jws } of [...publishedVectors, ...publishedRefusals]) {
    const options = resolveOptions({ issuer: 'joe', jwksUrl: 'https://id.example.com', algorithms, clock: new ManualClock(), fetch: async () => Response.json({ keys: [jwk] }) })
    t.match(await new TokenVerifier({ ...options, ...trustedIssuers(options) }).identify(jws), { kind: 'refused' }, name)
  }
  t.match(parseToken(publishedVectors[2]!.jws), { kind: 'refused' }, 'a sentence is no object')
})
