import { createECDH, generateKeyPairSync, randomBytes } from 'node:crypto'
import { fastify } from 'fastify'
import { SignJWT, type JWK } from 'jose'
import t, { type Test } from 'tap'
import { clerkSimulator, type EndpointFault } from '@orientor/clerk-simulator'
import type { Identity, Sync, Unresolved } from '@orientor/session-contract/core'
import { ManualClock, until } from '@orientor/test-kit'
import { TokenVerifier, resolveOptions, trustedIssuers, type Algorithm, type JwksSource, type SessionIdentityOptions } from '../src/core.js'
import { identityComponent } from '../src/identity-component.js'
import { readKeySet } from '../src/verifying-key.js'
import { identifyAfterCooldown } from './fixtures/after-cooldown.js'
import { KeyEndpoint } from './fixtures/key-endpoint.js'
import { ecKey, forge, issuer, jwkOf, rsaKey, sessionClaims, sessionToken, type SigningKey } from './fixtures/token-issuer.js'

const first = rsaKey('ins_1')
const second = rsaKey('ins_2')
const sameKid = rsaKey('ins_1')

function verifierOf (input: SessionIdentityOptions & { readonly clock: ManualClock }) {
  const options = resolveOptions(input)
  const { policies, sources } = trustedIssuers(options)
  const verifier = new TokenVerifier({ ...options, policies })
  return { clock: input.clock, verifier, sources, source: sources[0]!, component: identityComponent(verifier, sources, options.clock) }
}

function setup (keys: readonly SigningKey[] = [first], input: SessionIdentityOptions = {}) {
  const clock = new ManualClock()
  const endpoint = new KeyEndpoint(keys)
  const token = (more: object = {}, key = first): string => sessionToken(key, clock.now(), more)
  return { endpoint, token, ...verifierOf({ issuer, fetch: endpoint.fetch, ...input, clock }) }
}

async function subjectOf (found: Sync<Identity | Unresolved>): Promise<string> {
  const settled = await found
  if (settled.kind === 'identity') return settled.subject
  return settled.kind === 'refused' ? settled.description : settled.kind
}

async function simulated (t: Test) {
  const clock = new ManualClock()
  const clerk = await clerkSimulator({ clock })
  await clerk.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => { await clerk.close() })
  const { simulator } = clerk
  const parts = verifierOf({ issuer: simulator.issuer, clock })
  t.teardown(() => { parts.source.close() })
  const user = await simulator.createUser()
  const requests = (): number => simulator.requestCounts['GET /.well-known/jwks.json'] ?? 0
  const token = async (): Promise<string> => await simulator.mintToken({ userId: user.id })
  return { ...parts, clerk, simulator, user, requests, token }
}

/** Lets the source make its next fetch, and a slow one run into its deadline. */
async function failedFetch (source: JwksSource, clock: ManualClock, fault: EndpointFault, requests: () => number): Promise<void> {
  const { failures } = source.stats
  const before = requests()
  clock.advance(fault.kind === 'hang' ? 300_000 : 5000)
  await until('a request', () => requests() > before)
  if (fault.kind === 'hang' || fault.kind === 'slow' || fault.kind === 'trickle') clock.advance(2000)
  await until('a failed fetch', () => source.stats.failures > failures)
}

t.test('Whatever a real endpoint does wrong, known keys go on serving, and the first good answer heals.', async t => {
  const { clock, verifier, source, simulator, user, requests, token, component } = await simulated(t)
  t.equal(await subjectOf(verifier.identify(await token())), user.id)
  const faults: readonly EndpointFault[] = [
    { kind: 'hang' }, { kind: 'reset' }, { kind: 'slow', delayMs: 60_000 }, { kind: 'trickle' }, { kind: 'status', status: 500 }, { kind: 'status', status: 404 },
    { kind: 'status', status: 429, retryAfterSeconds: 60 }, { kind: 'garbage' }, { kind: 'html' }, { kind: 'empty' }, { kind: 'object' }, { kind: 'huge', bytes: 3_000_000 },
    { kind: 'huge', bytes: 500_000_000, gzip: true }, { kind: 'redirect', location: `${simulator.apiUrl}/jwks` }
  ]
  for (const fault of faults) {
    const name = JSON.stringify(fault)
    simulator.faults.jwks.set(fault)
    await failedFetch(source, clock, fault, requests)
    t.equal(await subjectOf(verifier.identify(await token())), user.id, name)
    t.match(await component.health(), { status: 'degraded', reason: 'The keys of the issuer cannot be loaded; the last ones are in use' }, name)
    t.match(source.failure, { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE' }, name)
  }
  simulator.faults.jwks.set(null)
  clock.advance(5000)
  await until('a good fetch', () => source.failure === null)
  t.match(await component.health(), { status: 'healthy' })
})

t.test('A packed answer of any size is given up at 1 MiB of what it holds.', async t => {
  const { verifier, simulator, source, token } = await simulated(t)
  simulator.faults.jwks.set({ kind: 'huge', bytes: 4_000_000_000, gzip: true })
  const before = process.memoryUsage().rss
  t.equal(await subjectOf(verifier.identify(await token())), 'unavailable')
  t.match(source.failure, { message: /its answer is larger than 1048576 bytes/ })
  t.ok(process.memoryUsage().rss - before < 100_000_000)
})

t.test('An endpoint that is down for ten minutes fails no token of a known key, remembered or new.', async t => {
  const { clock, verifier, simulator, requests, token } = await simulated(t)
  const known = await simulator.mintToken({ userId: (await simulator.createUser()).id, lifetimeSeconds: 3600 })
  t.equal((await verifier.identify(known)).kind, 'identity')
  simulator.faults.jwks.set({ kind: 'reset' })
  const startedAt = requests()
  let failed = 0
  for (let second = 0; second < 600; second += 2) {
    clock.advance(2000)
    await clock.settle(3)
    for (const text of [known, await token()]) if ((await verifier.identify(text)).kind !== 'identity') failed++
  }
  t.equal(failed, 0)
  t.ok(requests() - startedAt >= 10 && requests() - startedAt <= 120, `${requests() - startedAt} fetches`)
})

t.test('Without any keys every good token is unavailable and every bad one refused, until the endpoint is back.', async t => {
  const { clock, verifier, simulator, user, token, source } = await simulated(t)
  simulator.faults.jwks.set({ kind: 'html' })
  t.match(await verifier.identify(await token()), { kind: 'unavailable', retryAfterMs: 5000, cause: { message: /its answer is not JSON/ } })
  t.equal(await subjectOf(verifier.identify(await simulator.mintToken({ userId: user.id, lifetimeSeconds: -60 }))), 'The token has expired')
  t.match(await verifier.identify(await token()), { kind: 'unavailable', retryAfterMs: 5000 })
  simulator.faults.jwks.set(null)
  clock.advance(5000)
  await until('keys', () => source.keys.length > 0)
  t.equal(await subjectOf(verifier.identify(await token())), user.id, 'fetched as soon as the cooldown ended, though nobody asked again')
})

t.test('A flood of unknown kids and bad signatures costs at most one fetch per five seconds, and harms nobody.', async t => {
  const { clock, endpoint, verifier, token } = setup()
  const startedAt: number[] = []
  const { answer } = endpoint
  endpoint.answer = () => {
    startedAt.push(clock.monotonic())
    return answer()
  }
  let failed = 0
  let passed = 0
  let refused = 0
  for (let step = 0; step < 600; step++) {
    clock.advance(100)
    const claims = sessionClaims(clock.now())
    const flood = Array.from({ length: 4 }, async (_, index) => await verifier.identify(index < 3
      ? forge(first, { header: { alg: 'RS256', kid: `kid_${step}_${index}` }, claims, signature: randomBytes(256) })
      : sessionToken(sameKid, clock.now(), { jti: step })))
    if (step % 20 === 0 && (await verifier.identify(token({ jti: step }))).kind !== 'identity') failed++
    for (const found of await Promise.all(flood)) {
      if (found.kind === 'refused') refused++
      else if (found.kind !== 'unavailable' || found.cause !== null) passed++
    }
  }
  t.same([failed, passed], [0, 0])
  t.equal(refused, 4, 'the first fetch began with them; all others come to a cooldown, and their fetch is made without them')
  const flood = Array.from({ length: 20 }, (_, index) => sessionToken(index < 10 ? second : sameKid, clock.now(), { jti: index }))
  for (const found of await identifyAfterCooldown(verifier, clock, flood)) t.match(found, { kind: 'refused' }, 'who comes after a pause is refused by the fetch that begins then')
  t.ok(startedAt.length >= 13 && startedAt.length <= 15, `${startedAt.length} fetches in 70 s`)
  t.ok(startedAt.every((at, index) => index === 0 || at - startedAt[index - 1]! >= 5000))
})

for (const [name, next] of [['under a new kid', second], ['under the same kid', sameKid]] as const) {
  t.test(`A rotation without overlap ${name}, within the cooldown: after the one refetch that ends it no token is rejected.`, async t => {
    const { clock, endpoint, verifier, token, source } = setup()
    t.equal(await subjectOf(verifier.identify(token())), 'user_1')
    const old = token({ sub: 'user_old' })
    t.equal(await subjectOf(verifier.identify(old)), 'user_old')
    clock.advance(1000)
    endpoint.publish([next])
    t.match(await verifier.identify(token({ jti: 1 }, next)), { kind: 'unavailable', retryAfterMs: 4000, cause: null }, 'not known yet, and the last fetch was a second ago')
    t.equal(endpoint.calls, 1)
    clock.advance(4000) // Nobody asks.
    await clock.settle()
    t.equal(endpoint.calls, 2, 'the cooldown has ended')
    let rejected = 0
    for (let turn = 0; turn < 100; turn++) {
      clock.advance(500)
      if ((await verifier.identify(token({ jti: turn }, next))).kind !== 'identity') rejected++
    }
    t.equal(rejected, 0)
    t.equal(endpoint.calls, 2)
    t.equal((await verifier.identify(old)).kind, 'refused', 'the old key is gone, and its tokens with it')
    t.equal(endpoint.calls, 3)
    source.close()
  })

  t.test(`A rotation without overlap ${name}, after the cooldown: no token is rejected, at one refetch for all.`, async t => {
    const { clock, endpoint, verifier, token, source } = setup()
    t.equal(await subjectOf(verifier.identify(token())), 'user_1')
    clock.advance(5000)
    endpoint.publish([next])
    const found = await Promise.all(Array.from({ length: 50 }, async (_, index) => await verifier.identify(token({ jti: index }, next))))
    t.equal(found.filter(({ kind }) => kind === 'identity').length, 50)
    t.equal(endpoint.calls, 2)
    source.close()
  })
}

t.test('A key that is withdrawn while it is verifying vouches for nothing.', async t => {
  const { clock, endpoint, verifier, token, source } = setup([first, second])
  t.equal(await subjectOf(verifier.identify(token())), 'user_1')
  clock.advance(5000)
  endpoint.publish([second])
  const slow = Promise.all(Array.from({ length: 20 }, async (_, index) => await verifier.identify(token({ jti: index }))))
  await source.refresh()
  for (const found of await slow) t.equal(found.kind, 'refused')
})

t.test('A token that expires while keys are fetched is refused.', async t => {
  const { clock, endpoint, verifier, token } = setup([first], { clockToleranceMs: 0 })
  const { answer } = endpoint
  let release = (): void => {}
  endpoint.answer = async () => await new Promise(resolve => { release = () => { resolve(answer()) } })
  const found = verifier.identify(token({ exp: clock.now() / 1000 + 1 }))
  await clock.settle()
  clock.advance(1500)
  release()
  t.equal(await subjectOf(found), 'The token has expired')
})

t.test('Entries of a set that cannot vouch for a token are left out, whatever else they are.', t => {
  const rsa = jwkOf(first) as JWK
  const ec = jwkOf(ecKey('ec')) as JWK
  const secp = createECDH('secp256k1')
  secp.generateKeys()
  const bits = (length: number): string => Buffer.from(randomBytes(length / 8).map((byte, at) => at === 0 ? byte | 0x80 : at === length / 8 - 1 ? byte | 1 : byte)).toString('base64url')
  const unusable: Record<string, unknown> = {
    'a private RSA key': { ...first.privateKey.export({ format: 'jwk' }), kid: 'ins_1' },
    'a private EC key': { ...ecKey('ec').privateKey.export({ format: 'jwk' }), kid: 'ec' },
    'a part of a private key': { ...rsa, p: 'AQAB' },
    'a shared secret': { kty: 'oct', k: 'c2VjcmV0', kid: 'ins_1' },
    'an RSA key with a shared secret': { ...rsa, k: 'c2VjcmV0' },
    'a key for encryption': { ...rsa, use: 'enc' },
    'use as a list': { ...rsa, use: ['sig'] },
    'a key for signing only': { ...rsa, key_ops: ['sign'] },
    'a key for no operation': { ...rsa, key_ops: [] },
    'operations as text': { ...rsa, key_ops: 'verify' },
    'an operation twice': { ...rsa, use: undefined, key_ops: ['verify', 'verify'] },
    'another operation twice': { ...rsa, key_ops: ['sign', 'verify', 'sign'] },
    'use sig and encryption': { ...rsa, use: 'sig', key_ops: ['verify', 'encrypt'] },
    'use sig and wrapping of keys': { ...rsa, use: 'sig', key_ops: ['wrapKey', 'verify'] },
    'use sig and an unknown operation': { ...rsa, use: 'sig', key_ops: ['verify', 'vouch'] },
    'use sig and an operation that is no text': { ...rsa, use: 'sig', key_ops: ['verify', 5] },
    'use enc and verification': { ...rsa, use: 'enc', key_ops: ['verify'] },
    'an algorithm for encryption': { ...rsa, alg: 'RSA-OAEP' },
    'an algorithm with a shared secret': { ...rsa, alg: 'HS256' },
    'no algorithm': { ...rsa, alg: 'none' },
    'RSA with 1024 bits': jwkOf(rsaKey('weak', 1024)),
    'RSA with 2040 bits': { ...rsa, n: bits(2040) },
    'RSA with 16384 bits': { ...rsa, n: bits(16_384) },
    'RSA with a huge exponent': { ...rsa, e: bits(2048) },
    'RSA without a modulus': { ...rsa, n: undefined },
    'RSA with a modulus that is no text': { ...rsa, n: 5 },
    'a point that is not on the curve': { ...ec, x: bits(256) },
    'a curve for money': { kty: 'EC', crv: 'secp256k1', kid: 'ec', x: secp.getPublicKey().subarray(1, 33).toString('base64url'), y: secp.getPublicKey().subarray(33).toString('base64url') },
    'an unknown curve': { ...ec, crv: 'P-111' },
    'a key for key agreement': { ...generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' }), kid: 'x' },
    'Ed448, which no allowed algorithm uses': generateKeyPairSync('ed448').publicKey.export({ format: 'jwk' }),
    'an unknown type': { ...rsa, kty: 'AKP' },
    'a kid that is no text': { ...rsa, kid: { toString: 'ins_1' } },
    null: null,
    'a list': [rsa],
    'a number': 5
  }
  for (const [name, entry] of Object.entries(unusable)) {
    t.equal(readKeySet({ keys: [entry] }, []), null, `${name}: alone it is no key set`)
    t.equal(readKeySet({ keys: [entry, rsa] }, [])?.length, 1, `${name}: beside a good key`)
  }
  const odd = { x5u: 'https://evil.example', x5c: ['MIIB'], x5t: 'AA' }
  const usable: readonly unknown[] = [
    rsa, ec, { ...rsa, use: undefined, alg: 'RS256' }, { ...rsa, key_ops: ['verify'] }, { ...rsa, ...odd },
    { ...rsa, use: undefined, key_ops: ['verify', 'encrypt'] }, { ...rsa, key_ops: ['sign', 'verify'] },
    { ...rsa, use: null, alg: null, key_ops: null, x5c: null, x5u: null, ext: null, d: null, p: null, oth: null, k: null }, { ...ec, d: null, alg: null }, { ...rsa, kid: null },
    { ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid: 'ed' }, JSON.parse(JSON.stringify(rsa).replace('{', '{"__proto__":{"d":"AQAB"},'))
  ]
  t.equal(readKeySet({ keys: usable }, [])?.length, usable.length)
  t.end()
})

t.test('A key verifies whatever else is published with it: null members, harmless operations, a byte order mark before the set.', async t => {
  const jwk = jwkOf(first)
  const sets: Record<string, string> = {
    'null members': JSON.stringify({ keys: [{ ...jwk, use: null, alg: null, key_ops: null, x5c: null, ext: null, d: null, k: null }] }),
    'sign and verify': JSON.stringify({ keys: [{ ...jwk, key_ops: ['sign', 'verify'] }] }),
    'verify and encrypt': JSON.stringify({ keys: [{ ...jwk, use: undefined, key_ops: ['verify', 'encrypt'], ext: 'yes' }] }),
    'a null kid': JSON.stringify({ keys: [{ ...jwk, kid: null }] }),
    'a byte order mark': `\ufeff${JSON.stringify({ keys: [jwk] })}`,
    'a byte order mark and white space': `\ufeff\r\n ${JSON.stringify({ keys: [jwk] })}`
  }
  for (const [name, body] of Object.entries(sets)) {
    const { endpoint, verifier, clock } = setup()
    endpoint.answer = () => new Response(body)
    const header = { alg: 'RS256', ...name === 'a null kid' ? {} : { kid: 'ins_1' } }
    t.match(await verifier.identify(forge(first, { header, claims: sessionClaims(clock.now()) })), { kind: 'identity' }, name)
  }
  const { endpoint, verifier, token } = setup()
  endpoint.answer = () => new Response(`\ufeff\ufeff${JSON.stringify({ keys: [jwk] })}`)
  t.match(await verifier.identify(token()), { kind: 'unavailable', cause: { message: /its answer is not JSON/ } }, 'a second mark is no mark')
})

t.test('A key whose members become null, or absent, is the same key: its tokens stay.', async t => {
  const { clock, endpoint, verifier, token, source } = setup()
  const text = token()
  const identity = await verifier.identify(text)
  endpoint.answer = () => Response.json({ keys: [{ ...jwkOf(first), x5c: null, alg: null }] })
  clock.advance(5000)
  await source.refresh()
  t.equal(verifier.identify(text), identity)
  endpoint.answer = () => Response.json({ keys: [{ ...jwkOf(first), alg: 'RS256' }] })
  clock.advance(5000)
  await source.refresh()
  t.match(await verifier.identify(text), { kind: 'identity' })
  t.not(await verifier.identify(text), identity, 'with an alg it is another key')
})

t.test('A set is bounded in keys and in depth; one beyond is a fault of the endpoint, not a withdrawal.', async t => {
  const sets: Record<string, string> = {
    '101 keys': JSON.stringify({ keys: Array.from({ length: 101 }, (_, index) => ({ ...jwkOf(second), kid: `kid_${index}` })) }),
    '10,000 keys': JSON.stringify({ keys: Array.from({ length: 10_000 }, () => ({ kty: 'EC' })) }),
    'a list 100,000 deep': `{"keys":[{"kty":"RSA","n":${'['.repeat(100_000)}${']'.repeat(100_000)}}]}`,
    'a good key with a list 100,000 deep': JSON.stringify({ keys: [{ ...jwkOf(second), x5c: '@' }] }).replace('"@"', `${'['.repeat(100_000)}${']'.repeat(100_000)}`),
    'keys as an object': JSON.stringify({ keys: { 0: jwkOf(second), length: 1 } })
  }
  for (const [name, body] of Object.entries(sets)) {
    const { clock, endpoint, verifier, token, source } = setup()
    await verifier.identify(token())
    endpoint.answer = () => new Response(body)
    clock.advance(5000)
    t.match(await verifier.identify(token({}, second)), { kind: 'unavailable', cause: { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE' } }, `${name}: says nothing of a token`)
    t.match(source.stats, { failures: 1, keys: 1, failing: 'keys' }, name)
    t.equal(await subjectOf(verifier.identify(token({ sub: 'user_2' }))), 'user_2', name)
    endpoint.publish([first])
    t.match(await identifyAfterCooldown(verifier, clock, [token({}, second)]), [{ kind: 'refused' }], `${name}: over, and the token is refused`)
    source.close()
  }
  const most = readKeySet({ keys: Array.from({ length: 100 }, (_, index) => ({ ...jwkOf(second), kid: `kid_${index}` })) }, [])
  t.equal(most?.length, 100)
})

t.test('Several keys under one kid all count, and each only for what it signed.', async t => {
  const { verifier, token, clock } = setup([sameKid, first, second])
  t.equal(await subjectOf(verifier.identify(token())), 'user_1')
  t.equal(await subjectOf(verifier.identify(token({}, sameKid))), 'user_1')
  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(token({}, rsaKey('ins_1')))), 'The signature of the token is not valid')
})

t.test('A redirect to a place with other keys is not followed, and no place that a token names is ever asked.', async t => {
  let evil = 0
  const server = fastify()
  server.get('/evil.json', () => {
    evil++
    return { keys: [jwkOf(second)] }
  })
  server.get('/.well-known/jwks.json', (_request, reply) => reply.redirect('/evil.json'))
  const url = await server.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => { await server.close() })
  const clock = new ManualClock()
  const { verifier } = verifierOf({ issuer: url, clock })
  for (const more of [{}, { jku: `${url}/evil.json` }, { x5u: `${url}/evil.json` }]) {
    t.equal((await verifier.identify(forge(second, { header: { alg: 'RS256', kid: 'ins_2', ...more }, claims: sessionClaims(clock.now(), { iss: url }) }))).kind, 'unavailable')
  }
  t.equal(evil, 0)
})

t.test('Several issuers in one scope: each has its own keys, rules and outages, and shares nothing but the bound.', async t => {
  const clock = new ManualClock()
  const [ours, theirs] = [new KeyEndpoint([first]), new KeyEndpoint([sameKid])]
  const other = 'https://other.example.com'
  const { verifier, component, sources } = verifierOf({
    clock,
    audience: 'api',
    issuers: [{ issuer }, { issuer: other, jwksUrl: 'https://keys.example.com/other', audience: 'theirs', authorizedParties: ['https://their.example.com'] }],
    fetch: async (url, init) => await (url === 'https://keys.example.com/other' ? theirs : ours).fetch(url, init)
  })
  const token = (key: SigningKey, more: object = {}): string => sessionToken(key, clock.now(), more)
  const their = (key: SigningKey, more: object = {}): string => token(key, { iss: other, aud: 'theirs', azp: 'https://their.example.com', ...more })
  const [one, two] = [await verifier.identify(token(first)), await verifier.identify(their(sameKid))]
  t.same([one, two].map(found => (found as Identity).key), [`${issuer} user_1`, `${other} user_1`], 'one subject, two users')
  t.equal(verifier.identify(token(first)), one, 'found, not verified again')
  t.equal(verifier.identify(their(sameKid)), two)
  t.same([ours.urls, theirs.urls], [[`${issuer}/.well-known/jwks.json`], ['https://keys.example.com/other']])

  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(their(first))), 'The signature of the token is not valid', 'the key of one never vouches for a token of the other, even under the same kid')
  t.equal(await subjectOf(verifier.identify(token(sameKid))), 'The signature of the token is not valid')
  t.equal(await subjectOf(verifier.identify(token(first, { aud: 'theirs' }))), 'The token is meant for another audience')
  t.equal(await subjectOf(verifier.identify(their(sameKid, { aud: 'api' }))), 'The token is meant for another audience')
  t.equal(await subjectOf(verifier.identify(their(sameKid, { azp: 'https://app.example.com' }))), 'The token was made for another party')
  for (const iss of ['https://third.example.com', `${other}/`, '__proto__', [issuer], null, undefined]) {
    t.equal(await subjectOf(verifier.identify(token(first, { iss }))), 'The issuer of the token is not accepted', JSON.stringify(iss))
  }
  t.same([ours.calls, theirs.calls], [2, 2], 'a token of nobody\'s fetches nothing')

  theirs.fail()
  clock.advance(300_000)
  await clock.settle(10)
  t.match(await component.health(), { status: 'degraded', reason: 'The keys of an issuer cannot be loaded; the last ones are in use' })
  t.match(component.stats(), { keys: 2, keyFetches: 6, keyFetchFailures: 1 })
  clock.advance(86_400_000)
  await clock.settle(10)
  t.equal(await subjectOf(verifier.identify(their(sameKid))), 'unavailable')
  t.equal(await subjectOf(verifier.identify(token(first))), 'user_1', 'the other issuer is not touched')
  t.match(await component.health(), { status: 'unhealthy', reason: 'The keys of an issuer cannot be loaded' })
  for (const source of sources) source.close()
})

t.test('Which algorithm goes with a key is said by its alg, else by its type and curve; RSA is RS256 then.', async t => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const [p256, p384, p521] = (['P-256', 'P-384', 'P-521'] as const).map(namedCurve => generateKeyPairSync('ec', { namedCurve }))
  const ed = generateKeyPairSync('ed25519')
  const all = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']
  type Row = readonly [name: string, pair: typeof rsa, alg: string | null | undefined, option: Algorithm[] | undefined, passes: readonly string[], fails: readonly string[]]
  const table: readonly Row[] = [
    ['RSA', rsa, undefined, undefined, ['RS256'], ['RS384', 'RS512', 'PS256', 'PS384', 'PS512']],
    ['RSA with a null alg', rsa, null, undefined, ['RS256'], ['RS512', 'PS256']],
    ...all.map((alg): Row => [`RSA for ${alg}`, rsa, alg, undefined, [alg], all.filter(other => other !== alg)]),
    ['P-256', p256!, undefined, undefined, ['ES256'], []],
    ['P-384', p384!, undefined, undefined, ['ES384'], []],
    ['P-521', p521!, undefined, undefined, ['ES512'], []],
    ['Ed25519', ed, undefined, undefined, ['EdDSA', 'Ed25519'], []],
    ['Ed25519 for EdDSA', ed, 'EdDSA', undefined, ['EdDSA'], ['Ed25519']],
    ['RSA where PS256 is allowed', rsa, undefined, ['PS256'], ['PS256'], ['RS256', 'RS384', 'PS384']],
    ['RSA where both are', rsa, undefined, ['PS256', 'RS256'], ['PS256', 'RS256'], ['RS384']],
    ['RSA for RS256 where PS256 is allowed', rsa, 'RS256', ['PS256'], [], ['RS256', 'PS256']],
    ['P-256 where RS256 is allowed', p256!, undefined, ['RS256'], [], ['ES256']]
  ]
  for (const [name, { publicKey, privateKey }, alg, algorithms, passes, fails] of table) {
    const clock = new ManualClock()
    const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'key_1', ...alg !== undefined && { alg } }
    const fetch = async (): Promise<Response> => Response.json({ keys: [jwk] })
    const { verifier } = verifierOf({ issuer, jwksUrl: `${issuer}/keys`, clock, fetch, ...algorithms !== undefined && { algorithms } })
    const sign = async (by: string): Promise<string> => {
      return await new SignJWT(sessionClaims(clock.now())).setProtectedHeader({ alg: by, kid: 'key_1' }).sign(privateKey)
    }
    for (const by of passes) t.match(await verifier.identify(await sign(by)), { kind: 'identity' }, `${name}, ${by}`)
    const bad = await Promise.all(fails.map(sign))
    for (const found of await identifyAfterCooldown(verifier, clock, bad)) t.match(found, { kind: 'refused' }, `${name}, ${fails.join()}`)
  }
})

t.test('An algorithm that needs a shared secret, or is not known, is refused before any key is fetched.', async t => {
  for (const alg of ['HS256', 'HS384', 'HS512', 'ES256K', 'Ed448', 'ML-DSA-44', 'RSA-OAEP', 'dir', 'none', 'RS256 ', 'rs256', 'toString', '']) {
    const { endpoint, verifier, clock } = setup()
    t.match(await verifier.identify(forge(first, { header: { alg, kid: 'ins_1' }, claims: sessionClaims(clock.now()) })), { kind: 'refused' }, alg)
    t.same([endpoint.discoveries, endpoint.calls], [0, 0], alg)
  }
})

t.test('Tokens of every allowed algorithm are verified, remembered by the end of their signature, and found by the whole token only.', async t => {
  const keys = {
    RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    RS512: generateKeyPairSync('rsa', { modulusLength: 4096 }),
    PS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
    ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
    ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
    EdDSA: generateKeyPairSync('ed25519'),
    Ed25519: generateKeyPairSync('ed25519')
  }
  const clock = new ManualClock()
  const jwks = { keys: Object.entries(keys).map(([alg, { publicKey }]) => ({ ...publicKey.export({ format: 'jwk' }), kid: alg, alg, use: 'sig' })) }
  const { verifier, component } = verifierOf({ issuer, jwksUrl: `${issuer}/keys`, clock, fetch: async () => Response.json(jwks) })
  const forgeries: string[] = []
  const lengths: number[] = []
  for (const [alg, { privateKey }] of Object.entries(keys)) {
    const token = await new SignJWT(sessionClaims(clock.now(), { sub: alg })).setProtectedHeader({ alg, kid: alg }).sign(privateKey)
    const identity = await verifier.identify(token)
    t.match(identity, { subject: alg }, alg)
    t.equal(verifier.identify(`${token} `.trim()), identity, `${alg}: found`)
    const [header, payload, signature] = token.split('.') as [string, string, string]
    lengths.push(signature.length)
    const forged = Buffer.from(JSON.stringify(sessionClaims(clock.now(), { sub: 'user_evil' }))).toString('base64url')
    // Another payload under the good signature, and the end of the signature alone.
    forgeries.push(`${header}.${forged}.${signature}`, `${header}.${payload}.${signature.slice(-43)}`)
  }
  for (const text of forgeries) t.match(await verifier.identify(text), { kind: /^(refused|unavailable)$/ })
  for (const found of await identifyAfterCooldown(verifier, clock, forgeries)) t.match(found, { kind: 'refused' })
  t.same(lengths, [342, 683, 342, 86, 128, 176, 86, 86])
  t.match(component.stats(), { verified: 8, hits: 8, cachedTokens: 8 })
})
