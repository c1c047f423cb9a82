import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { runInNewContext } from 'node:vm'
import { SignJWT, type JWTPayload } from 'jose'
import t from 'tap'
import { ManualClock } from '@orientor/test-kit'
import { TokenVerifier, resolveOptions, trustedIssuers } from '../src/core.js'
import { identifyAfterCooldown } from './fixtures/after-cooldown.js'
import { providerShapes, type ProviderShape, type ShapedToken } from './fixtures/provider-shapes.js'
import { hmac } from './fixtures/token-issuer.js'
import { Web } from './fixtures/web.js'

interface KeyPair { readonly publicKey: KeyObject, readonly privateKey: KeyObject }

const algorithms = { RSA: 'RS256', 'P-256': 'ES256', Ed25519: 'EdDSA' } as const
const keys = { RSA: keyPair('RSA'), 'P-256': keyPair('P-256'), Ed25519: keyPair('Ed25519') }

function keyPair (keyType: ProviderShape['keyType']): KeyPair {
  if (keyType === 'RSA') return generateKeyPairSync('rsa', { modulusLength: 2048 })
  return keyType === 'P-256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519')
}

/** A verifier that an operator sets up with the options of the row, on a network where the provider is as it documents itself. */
function setup (shape: ProviderShape) {
  const { keyType, jwk } = shape
  const web = new Web()
  for (const [issuer, url] of Object.entries(shape.jwksUrls)) {
    const discoveryUrl = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
    if (shape.isDiscovered) web.publish(discoveryUrl, { issuer, jwks_uri: url })
    web.publish(url, { keys: [...shape.otherKeys ?? [], { ...keys[keyType].publicKey.export({ format: 'jwk' }), ...jwk }] })
  }
  const clock = new ManualClock()
  const options = resolveOptions({ ...shape.options, fetch: web.fetch, clock })
  const { policies, sources } = trustedIssuers(options)
  const verifier = new TokenVerifier({ ...options, policies })
  const headerOf = ({ header }: ShapedToken): { alg: string } => {
    return withoutUndefined({ alg: algorithms[keyType], kid: jwk['kid'], ...shape.header, ...header })
  }
  const claimsOf = ({ claims }: ShapedToken): JWTPayload => {
    const iat = Math.floor(clock.now() / 1000)
    return withoutUndefined({ iat, exp: iat + 3600, ...shape.claims, ...claims })
  }
  const sign = async (token: ShapedToken, by: KeyPair = keys[keyType]): Promise<string> => {
    return await new SignJWT(claimsOf(token)).setProtectedHeader(headerOf(token)).sign(by.privateKey)
  }
  const fetches = (): number => sources.reduce((sum, { stats }) => sum + stats.fetches, 0)
  return { web, clock, verifier, sources, headerOf, claimsOf, sign, fetches }
}

function withoutUndefined<T extends object> (members: T): T {
  return JSON.parse(JSON.stringify(members)) as T
}

for (const shape of providerShapes) {
  t.test(`${shape.name}: tokens for the API pass with the options of the table, and keys come from where the provider has them.`, async t => {
    const { web, verifier, sign, claimsOf } = setup(shape)
    for (const token of shape.tokens) {
      t.match(await verifier.identify(await sign(token)), { kind: 'identity', subject: token.subject, issuer: claimsOf(token).iss! }, token.name)
    }
    t.same([...web.urls].sort(), [...web.documents.keys()].sort(), 'each document once, and no other')
  })

  t.test(`${shape.name}: tokens for another use, of another tenant, with a shared secret or of another key are refused.`, async t => {
    const { clock, verifier, sign, headerOf, claimsOf, sources, fetches } = setup(shape)
    for (const other of shape.others) {
      t.match(await verifier.identify(await sign(other)), { kind: 'refused', description: other.refusal }, other.name)
    }

    const forgeries: string[] = []
    const another = keyPair(shape.keyType)
    const { publicKey } = keys[shape.keyType]
    for (const token of shape.tokens) {
      const changed = async (claims: object): Promise<string> => await sign({ ...token, claims: { ...token.claims, ...claims } })
      t.match(await verifier.identify(await changed({ iss: `${claimsOf(token).iss!}.evil.example` })), { kind: 'refused' })
      t.match(await verifier.identify(await changed({ exp: clock.now() / 1000 - 60 })), { kind: 'refused', description: 'The token has expired' })
      for (const secret of [publicKey.export({ format: 'pem', type: 'spki' }), JSON.stringify(publicKey.export({ format: 'jwk' })), '']) {
        const symmetric = hmac(secret, { ...headerOf(token), alg: 'HS256' }, claimsOf(token))
        t.match(await verifier.identify(symmetric), { kind: 'refused', description: 'The algorithm of the token is not allowed' })
      }
      forgeries.push(await sign(token, another), await sign({ ...token, header: { ...token.header, kid: 'unknown' } }, another))
    }
    t.equal(fetches(), 0, 'refused before any key is fetched')
    const found = await identifyAfterCooldown(verifier, clock, forgeries)
    for (const one of found) t.match(one, { kind: 'refused', error: 'invalid_token' }, 'of another key')
    t.match(await verifier.identify(await sign(shape.tokens[0]!)), { kind: 'identity' }, 'and the good one still passes')
    for (const source of sources) source.close()
  })
}

t.test('The table of the README has the options of each row, as they are.', t => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const rows = [...readme.matchAll(/^\| (?<name>[\w -]+) \| `(?<options>\{.*?\})` \|/gm)].map(({ groups }) => [groups!['name'], evaluated(groups!['options']!)])
  t.same(rows, providerShapes.map(({ name, options }) => [name, options]))
  t.end()
})

/** The value of an object literal of the README. */
function evaluated (literal: string): unknown {
  return runInNewContext(`(${literal})`)
}
