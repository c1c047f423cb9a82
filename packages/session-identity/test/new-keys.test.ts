import { generateKeyPairSync } from 'node:crypto'
import { fastify } from 'fastify'
import { SignJWT } from 'jose'
import t from 'tap'
import { ManualClock, until } from '@orientor/test-kit'
import { TokenVerifier, resolveOptions, trustedIssuers, type Fetch, type SessionIdentityOptions } from '../src/core.js'
import { identityComponent } from '../src/identity-component.js'
import sessionIdentity from '../src/index.js'
import { afterCooldown, identifyAfterCooldown } from './fixtures/after-cooldown.js'
import { KeyEndpoint } from './fixtures/key-endpoint.js'
import { forge, issuer, jwkOf, party, rsaKey, sessionClaims, sessionToken, type SigningKey } from './fixtures/token-issuer.js'

const first = rsaKey('ins_1')
const second = rsaKey('ins_2')
const sameKid = rsaKey('ins_1')
const jwksUrl = `${issuer}/keys`

/** A verifier that has just fetched the first key: the cooldown of 5 s begins. */
async function setup (input: SessionIdentityOptions = {}) {
  const clock = new ManualClock()
  const endpoint = new KeyEndpoint([first])
  const options = resolveOptions({ issuer, jwksUrl, fetch: endpoint.fetch, ...input, clock })
  const { policies, sources } = trustedIssuers(options)
  const verifier = new TokenVerifier({ ...options, policies })
  const token = (by: SigningKey, jti = 0): string => sessionToken(by, clock.now(), { jti })
  await verifier.identify(token(first))
  return { clock, endpoint, verifier, source: sources[0]!, sources, token, component: identityComponent(verifier, sources, clock) }
}

/** What has become of a request by now; null: it waits. */
async function soFar<T> (found: Promise<T> | T): Promise<T | null> {
  return await Promise.race([Promise.resolve(found), new Promise<null>(resolve => { setImmediate(resolve, null) })])
}

/** An answer of the endpoint that comes when the test says so. */
function held (endpoint: KeyEndpoint): (keys: readonly SigningKey[]) => void {
  let release = (_answer: () => Response | Promise<Response>): void => {}
  const released = new Promise<() => Response | Promise<Response>>(resolve => { release = resolve })
  endpoint.answer = async () => await (await released)()
  return keys => {
    endpoint.publish(keys)
    release(endpoint.answer)
  }
}

const notYet = (retryAfterMs: number): object => ({ kind: 'unavailable', retryAfterMs, cause: null })

for (const [name, by] of [['under a new kid', second], ['under the same kid', sameKid]] as const) {
  t.test(`Fifty tokens of a brand-new key ${name} wait for the one fetch that ends the cooldown, and all pass.`, async t => {
    const { clock, endpoint, verifier, token, component } = await setup()
    endpoint.publish([by])
    clock.advance(3500)
    const found = Array.from({ length: 50 }, async (_, jti) => await verifier.identify(token(by, jti), true))
    await clock.settle()
    t.equal(await soFar(found[0]!), null, 'waits')
    t.equal(endpoint.calls, 1)
    clock.advance(1500)
    for (const one of await Promise.all(found)) t.match(one, { kind: 'identity' })
    t.equal(endpoint.calls, 2)
    t.match(component.stats(), { verified: 51, unavailable: 0, refused: 0 })
  })

  t.test(`A forged token ${name} waits as well, and is refused by the fetch that began after it came.`, async t => {
    const { clock, endpoint, verifier, token } = await setup()
    clock.advance(3500)
    const found = Array.from({ length: 3 }, async (_, jti) => await verifier.identify(token(by, jti), true))
    await clock.settle()
    t.equal(await soFar(found[0]!), null)
    clock.advance(1500)
    for (const one of await Promise.all(found)) t.match(one, { kind: 'refused', error: 'invalid_token' })
    t.equal(endpoint.calls, 2)
  })
}

t.test('A lone key without a kid, and one of another algorithm, are new keys too.', async t => {
  const ec = { kid: 'ec', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) }
  const changes: ReadonlyArray<readonly [name: string, jwk: object, token: (nowMs: number) => string | Promise<string>]> = [
    ['no kid', { ...jwkOf(second), kid: undefined }, nowMs => forge(second, { header: { alg: 'RS256' }, claims: sessionClaims(nowMs) })],
    ['ES256', jwkOf(ec), async nowMs => {
      return await new SignJWT(sessionClaims(nowMs)).setProtectedHeader({ alg: 'ES256', kid: 'ec' }).sign(ec.privateKey)
    }]
  ]
  for (const [name, jwk, sign] of changes) {
    const { clock, endpoint, verifier } = await setup()
    endpoint.answer = () => Response.json({ keys: [jwk] })
    clock.advance(4000)
    const text = await sign(clock.now())
    const waiting = verifier.identify(text, true)
    t.match(await verifier.identify(text), notYet(1000), `${name}: who may not wait is told at once`)
    t.equal(await soFar(waiting), null, `${name}: and does not join who waits`)
    clock.advance(1000)
    t.match(await waiting, { kind: 'identity' }, name)
    t.equal(endpoint.calls, 2)
  }
})

t.test('A client that sends a bad token again whenever it is told to learns that it is bad, and a key that is published meanwhile counts.', async t => {
  for (const other of [second, sameKid]) {
    const clock = new ManualClock()
    const endpoint = new KeyEndpoint([first])
    const options = resolveOptions({ issuer, jwksUrl, clock, fetch: endpoint.fetch, maxTokenLifetimeMs: 86_400_000 })
    const { policies, sources } = trustedIssuers(options)
    const verifier = new TokenVerifier({ ...options, policies })
    t.teardown(() => { sources[0]!.close() })
    const token = (key: SigningKey, more: object = {}): string => sessionToken(key, clock.now(), { exp: clock.now() / 1000 + 3600, ...more })
    await verifier.identify(token(first))
    const bad = token(other)
    const answers: string[] = []
    for (let turn = 0; turn < 4; turn++) {
      const found = await verifier.identify(bad)
      answers.push(found.kind)
      // As Retry-After has it, in whole seconds, and a little later.
      clock.advance(found.kind === 'unavailable' ? Math.max(1, Math.ceil(found.retryAfterMs / 1000)) * 1000 : 5000)
      await clock.settle()
      clock.advance(20)
    }
    t.same(answers, ['unavailable', 'refused', 'refused', 'refused'], other.kid)
    endpoint.publish([first, other])
    await verifier.identify(bad)
    await afterCooldown(clock)
    t.equal((await verifier.identify(bad)).kind, 'identity', `${other.kid}: the key is there now`)
  }
})

t.test('Who would wait two seconds or longer is told at once when the fetch is made.', async t => {
  for (const [elapsedMs, retryAfterMs] of [[0, 5000], [1000, 4000], [2999, 2001], [3000, 2000]] as const) {
    const { clock, verifier, token } = await setup()
    clock.advance(elapsedMs)
    t.match(await soFar(verifier.identify(token(second), true)), notYet(retryAfterMs), `after ${elapsedMs} ms`)
  }
  const { clock, endpoint, verifier, token } = await setup()
  endpoint.publish([first, second])
  clock.advance(3001)
  const found = verifier.identify(token(second), true)
  await clock.settle()
  t.equal(await soFar(found), null)
  clock.advance(1999)
  t.match(await found, { kind: 'identity' })
})

t.test('At most a hundred requests wait, the same token or not; those beyond are told at once, and later ones may wait again.', async t => {
  for (const one of [true, false]) {
    const { clock, endpoint, verifier, token } = await setup()
    endpoint.publish([first, second])
    clock.advance(4000)
    const found = Array.from({ length: 250 }, async (_, jti) => await verifier.identify(token(second, one ? 0 : jti), true))
    await clock.settle(10)
    const early = (await Promise.all(found.map(soFar))).filter(settled => settled !== null)
    t.equal(early.length, 150)
    for (const settled of early) t.match(settled, notYet(1000))
    clock.advance(1000)
    const all = await Promise.all(found)
    t.equal(all.filter(({ kind }) => kind === 'identity').length, 100)
    t.equal(endpoint.calls, 2)
    endpoint.publish([first, second, sameKid])
    clock.advance(4000)
    const later = Array.from({ length: 100 }, async (_, jti) => await verifier.identify(token(sameKid, jti), true))
    await clock.settle(10)
    clock.advance(1000)
    t.ok((await Promise.all(later)).every(({ kind }) => kind === 'identity'))
  }
})

t.test('A flood at one issuer takes no place from those who wait at another.', async t => {
  const clock = new ManualClock()
  const [ours, theirs] = [new KeyEndpoint([first]), new KeyEndpoint([first])]
  const other = 'https://other.example.com'
  const options = resolveOptions({
    clock,
    issuers: [{ issuer, jwksUrl }, { issuer: other, jwksUrl: `${other}/keys` }],
    fetch: async (url: string, init: Parameters<Fetch>[1]) => await (url === jwksUrl ? ours : theirs).fetch(url, init)
  })
  const { policies } = trustedIssuers(options)
  const verifier = new TokenVerifier({ ...options, policies })
  const token = (by: SigningKey, iss: string, jti = 0): string => sessionToken(by, clock.now(), { iss, jti })
  for (const iss of [issuer, other]) t.match(await verifier.identify(token(first, iss)), { kind: 'identity' })
  theirs.publish([first, second])
  clock.advance(4000)
  const flood = Array.from({ length: 200 }, async (_, jti) => await verifier.identify(token(second, issuer, jti), true))
  const good = verifier.identify(token(second, other), true)
  await clock.settle(10)
  t.equal(await soFar(good), null)
  clock.advance(1000)
  t.match(await good, { kind: 'identity' })
  t.same(new Set((await Promise.all(flood)).map(({ kind }) => kind)), new Set(['refused', 'unavailable']))
})

t.test('A fetch that does not come in time lets each go two seconds after it came, and verifies who comes after it.', async t => {
  const { clock, endpoint, verifier, token, source } = await setup()
  const release = held(endpoint)
  clock.advance(3500)
  const early = verifier.identify(token(second, 1), true)
  clock.advance(1000)
  const late = verifier.identify(token(second, 2), true)
  await clock.settle()
  clock.advance(999)
  await clock.settle()
  t.equal(endpoint.calls, 2, 'asked for half a second ago')
  t.equal(await soFar(early), null)
  clock.advance(1)
  t.match(await early, notYet(1500), 'until the fetch must have ended')
  t.equal(await soFar(late), null)
  release([first, second])
  t.match(await late, { kind: 'identity' })
  t.match(await verifier.identify(token(second, 3)), { kind: 'identity' })
  source.close()
  t.equal(clock.pendingTimers, 0)
})

t.test('Who may not wait is told at once when the fetch is made, and it is made though nobody asks again.', async t => {
  const { clock, endpoint, verifier, token } = await setup()
  endpoint.publish([first, second])
  for (const [elapsedMs, retryAfterMs] of [[0, 5000], [4000, 1000], [999, 1]] as const) {
    clock.advance(elapsedMs)
    t.match(await soFar(verifier.identify(token(second))), notYet(retryAfterMs))
  }
  t.equal(endpoint.calls, 1)
  clock.advance(1)
  await clock.settle()
  t.equal(endpoint.calls, 2)
  t.match(await verifier.identify(token(second)), { kind: 'identity' })
})

t.test('A fetch that had begun when a token came can verify it, and cannot refuse it, be it the same token that began it.', async t => {
  const publications: ReadonlyArray<readonly [name: string, keys: readonly SigningKey[], begins: string, joins: object]> = [
    ['the key is there', [first, second], 'identity', { kind: 'identity' }],
    ['it is not there', [first], 'refused', notYet(4000)],
    ['another one is there under its kid', [first, rsaKey('ins_2')], 'refused', notYet(4000)]
  ]
  for (const mayWait of [false, true]) {
    for (const [name, keys, begins, joins] of publications) {
      const { clock, endpoint, verifier, token } = await setup()
      clock.advance(5000)
      const release = held(endpoint)
      const own = token(second)
      const beginning = verifier.identify(own, mayWait)
      await clock.settle()
      t.equal(endpoint.calls, 2, name)
      clock.advance(1000)
      const joining = [verifier.identify(own, mayWait), verifier.identify(token(second, 1), mayWait)]
      await clock.settle()
      t.equal(await soFar(joining[0]!), null, 'all wait for a fetch that is under way')
      release(keys)
      t.match(await beginning, { kind: begins }, name)
      for (const found of joining) t.match(await found, joins, name)
      if (begins === 'refused') {
        t.match(await identifyAfterCooldown(verifier, clock, [own]), [{ kind: 'refused' }], `${name}: refused in the end`)
      }
    }
  }
})

t.test('A fetch that fails proves nothing: with old keys in use a token of another key is unavailable, and the operator can read why.', async t => {
  const faults: Record<string, (endpoint: KeyEndpoint) => void> = {
    'the network': endpoint => { endpoint.fail() },
    'status 500': endpoint => { endpoint.answer = () => new Response(null, { status: 500 }) },
    html: endpoint => { endpoint.answer = () => new Response('<html></html>') },
    'an empty set': endpoint => { endpoint.publish([]) },
    'no answer': endpoint => { endpoint.answer = async () => await new Promise<Response>(() => {}) }
  }
  for (const [name, fault] of Object.entries(faults)) {
    for (const by of [second, sameKid]) {
      const { clock, endpoint, verifier, token } = await setup()
      fault(endpoint)
      clock.advance(5000)
      const found = [verifier.identify(token(by)), verifier.identify(token(by, 1), true)]
      await until('a fetch', () => endpoint.calls === 2)
      clock.advance(2000)
      const why = { kind: 'unavailable', cause: { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE' } }
      for (const one of found) t.match(await one, why, name)
      t.match(await verifier.identify(token(by)), why, `${name}: within the cooldown that follows, too`)
      t.match(await verifier.identify(token(first, 1)), { kind: 'identity' }, `${name}: a known key serves`)
      endpoint.publish([first])
      t.match(await identifyAfterCooldown(verifier, clock, [token(by)]), [{ kind: 'refused' }], `${name}: over, and refused`)
    }
  }
})

t.test('Without any key the rules are the same: who may wait does so for the next fetch.', async t => {
  const clock = new ManualClock()
  const endpoint = new KeyEndpoint([first])
  endpoint.fail()
  const options = resolveOptions({ issuer, jwksUrl, fetch: endpoint.fetch, clock })
  const verifier = new TokenVerifier({ ...options, ...trustedIssuers(options) })
  const token = (): string => sessionToken(first, clock.now())
  const cause = { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE' }
  t.match(await verifier.identify(token(), true), { kind: 'unavailable', retryAfterMs: 5000, cause })
  endpoint.publish([first])
  clock.advance(3500)
  const waiting = verifier.identify(token(), true)
  t.match(await verifier.identify(token()), { kind: 'unavailable', retryAfterMs: 1500 })
  clock.advance(1500)
  t.match(await waiting, { kind: 'identity' })
})

t.test('Closing lets those go that wait, and leaves no timer behind.', async t => {
  const { clock, endpoint, verifier, token, source } = await setup()
  clock.advance(4000)
  const found = Array.from({ length: 5 }, async (_, jti) => await verifier.identify(token(second, jti), true))
  await clock.settle()
  source.close()
  for (const one of await Promise.all(found)) t.match(one, { kind: 'unavailable', cause: null })
  t.match(await verifier.identify(token(second), true), { kind: 'unavailable' })
  t.match(await verifier.identify(token(first, 1)), { kind: 'identity' }, 'the keys stay')
  t.equal(clock.pendingTimers, 0)
  clock.advance(60_000)
  await clock.settle()
  t.equal(endpoint.calls, 1)
})

t.test('A route that requires a session waits for the key of a new token, in the header or a cookie; a public one and identify() do not.', async t => {
  const clock = new ManualClock()
  const endpoint = new KeyEndpoint([first])
  const log: string[] = []
  const app = fastify({ logger: { level: 'warn', stream: { write: (line: string) => { log.push(line) } } } })
  await app.register(sessionIdentity, { issuer, jwksUrl, fetch: endpoint.fetch, clock, authorizedParties: [party] })
  app.get('/closed', { config: { session: { required: true } } }, request => request.identity?.subject)
  app.get('/open', request => request.sessionOutcome?.kind)
  t.teardown(async () => { await app.close() })
  const token = (by: SigningKey, sub: string): string => sessionToken(by, clock.now(), { sub })
  const get = async (url: string, sent: object): Promise<readonly [status: number, body: string, retryAfter: unknown]> => {
    const { statusCode, body, headers } = await app.inject({ url, headers: { ...sent } })
    return [statusCode, statusCode === 200 ? body : '', headers['retry-after']]
  }
  const bearer = (text: string): object => ({ authorization: `Bearer ${text}` })
  t.same(await get('/closed', bearer(token(first, 'user_1'))), [200, 'user_1', undefined])
  endpoint.publish([first, second])
  t.same(await get('/closed', bearer(token(second, 'user_2'))), [503, '', '5'], 'it would wait too long')
  clock.advance(3500)
  const ours = token(second, 'user_2')
  const cookie = `__session=${token(second, 'user_3')}`
  const waiting = [get('/closed', bearer(ours)), get('/closed', { cookie }), get('/closed', bearer(token(sameKid, 'user_4')))]
  await clock.settle(20)
  t.same(await Promise.all(waiting.map(soFar)), [null, null, null])
  t.same(await get('/open', bearer(ours)), [200, 'unavailable', undefined])
  t.same(await get('/open', { cookie: `__session=${ours}` }), [200, 'unavailable', undefined])
  t.match(await app.sessionIdentity.identify(ours), { kind: 'unavailable', retryAfterMs: 1500, cause: null })
  clock.advance(1500)
  t.same(await Promise.all(waiting), [[200, 'user_2', undefined], [200, 'user_3', undefined], [401, '', undefined]])
  t.same(await get('/open', bearer(ours)), [200, 'identified', undefined])
  t.same(log, [], 'nothing of it is for the operator to read')
})

t.test('Several cookies of unknown keys are judged by one fetch, that began after the request came.', async t => {
  const { clock, endpoint, verifier, token } = await setup()
  clock.advance(4000)
  const bad = [token(second, 1), token(sameKid, 2), token(second, 3)]
  const found = verifier.identifyCookies(bad, null, true)
  const passing = verifier.identifyCookies([...bad, token(first, 4)], null, true)
  t.match(await verifier.identifyCookies(bad, null), notYet(1000))
  t.equal(await soFar(found), null)
  clock.advance(1000)
  t.match(await found, { kind: 'anonymous' }, 'and none is any credentials')
  t.match(await passing, { kind: 'identity' })
  t.equal(endpoint.calls, 2)
})
