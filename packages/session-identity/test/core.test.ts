import { createHook } from 'node:async_hooks'
import { createHash } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { ManualClock } from '@orientor/test-kit'
import { anonymous, createIdentity, type Identity, type Sync, type Unresolved } from '@orientor/session-contract/core'
import { readCredentials } from '../src/credentials.js'
import { TokenVerifier, resolveOptions, trustedIssuers, type Identify, type SessionIdentityOptions } from '../src/core.js'
import { JwksSource } from '../src/jwks-source.js'
import { identityComponent } from '../src/identity-component.js'
import { TokenCache } from '../src/token-cache.js'
import { identifyAfterCooldown } from './fixtures/after-cooldown.js'
import { KeyEndpoint } from './fixtures/key-endpoint.js'
import { hostileTokens } from './fixtures/hostile-tokens.js'
import { audience, ecKey, encode, forge, issuer, jwkOf, party, rsaKey, sessionClaims, sessionToken, type SigningKey } from './fixtures/token-issuer.js'

const first = rsaKey('ins_1')
const second = rsaKey('ins_2')
const sameKid = rsaKey('ins_1')

function setup ({ keys = [first, second], ...input }: SessionIdentityOptions & { keys?: readonly SigningKey[] } = {}) {
  const clock = new ManualClock()
  const endpoint = new KeyEndpoint(keys)
  const options = resolveOptions({ issuer, audience, authorizedParties: [party], clock, fetch: endpoint.fetch, ...input })
  const { policies, sources } = trustedIssuers(options)
  const source = sources[0]!
  const verifier = new TokenVerifier({ ...options, policies })
  const token = (more: object = {}, key = first): string => sessionToken(key, clock.now(), more)
  return { clock, endpoint, source, verifier, token, component: identityComponent(verifier, sources, clock) }
}

/** Nothing to read for an operator: only that the next fetch may bring the key. */
const notYet = { kind: 'unavailable', cause: null }

async function subjectOf (found: Sync<Identity | Unresolved>): Promise<string> {
  const settled = await found
  if (settled.kind === 'identity') return settled.subject
  return settled.kind === 'refused' ? settled.description : settled.kind
}

t.test('A good token becomes a frozen identity that all its requests share.', async t => {
  const { verifier, token, clock, component } = setup({ updatedAtClaim: ['meta', 'updated_at'] })
  const text = token({ meta: { updated_at: 1_749_982_830 } })
  const [one, other] = await Promise.all([verifier.identify(text), verifier.identify(text)])
  const third = verifier.identify(`${text} `.slice(0, -1))
  t.equal(one, other, 'two requests at once are verified once')
  t.equal(third, one, 'and the third finds it')
  t.match(one, { kind: 'identity', key: `${issuer} user_1`, issuer, subject: 'user_1', sessionId: 'sess_1', issuedAtMs: clock.now(), providerUpdatedAt: 1_749_982_830_000 })
  t.ok(Object.isFrozen(one) && Object.isFrozen((one as Identity).claims))
  t.match(component.stats(), { hits: 1, verified: 2, refused: 0, cachedTokens: 1, keyFetches: 1, keyFetchFailures: 0, keys: 2 })
})

t.test('What a token leaves out is null in the identity.', async t => {
  const { verifier, token } = setup({ updatedAtClaim: 'updated_at' })
  for (const more of [{ sid: undefined, iat: undefined }, { sid: '', iat: undefined, updated_at: 'yesterday' }, { sid: 5, iat: undefined, updated_at: {} }]) {
    t.match(await verifier.identify(token(more)), { sessionId: null, issuedAtMs: null, providerUpdatedAt: null })
  }
  const nested = setup({ updatedAtClaim: ['meta', 'updated_at'] })
  for (const meta of [undefined, null, 'text', []]) t.match(await nested.verifier.identify(nested.token({ meta })), { kind: 'identity', providerUpdatedAt: null })
})

t.test('Variants that are good are accepted.', async t => {
  const { verifier, clock, token } = setup()
  const accepted = {
    'no typ, no cat': forge(first, { header: { alg: 'RS256', kid: 'ins_1' }, claims: sessionClaims(clock.now()) }),
    'typ in lower case': forge(first, { header: { alg: 'RS256', kid: 'ins_1', typ: 'jwt' }, claims: sessionClaims(clock.now()) }),
    'the category that tells nothing': forge(first, { header: { alg: 'RS256', kid: 'ins_1', cat: 'cl_I7d4PD111III' }, claims: sessionClaims(clock.now()) }),
    'unknown header parameters': forge(first, { header: { alg: 'RS256', kid: 'ins_1', oiat: 1, jku: 'https://evil.example' }, claims: sessionClaims(clock.now()) }),
    'several audiences': token({ aud: ['other', audience] }),
    'no nbf': token({ nbf: undefined }),
    'fractions of seconds': token({ exp: clock.now() / 1000 + 0.5 }),
    'the full day': token({ exp: clock.now() / 1000 + 86_400 }),
    'a claim named __proto__': forge(first, { header: { alg: 'RS256', kid: 'ins_1' }, claims: JSON.stringify(sessionClaims(clock.now())).replace('{', '{"__proto__":{"sub":"user_2"},') })
  }
  for (const [name, text] of Object.entries(accepted)) t.equal(await subjectOf(verifier.identify(text)), 'user_1', name)
  t.equal(await subjectOf(verifier.identify(token({ sub: 'auth0|1' }, second))), 'auth0|1', 'the other key')
  const duplicated = JSON.stringify(sessionClaims(clock.now())).replace('{', '{"sub":"user_2",')
  t.equal(await subjectOf(verifier.identify(forge(first, { header: { alg: 'RS256', kid: 'ins_1' }, claims: duplicated }))), 'user_1', 'the last of two members counts, for us as for JSON.parse')
})

t.test('Every hostile token is refused, cold and against a warm cache, and none enters it; in a cooldown, by the fetch that ends it.', async t => {
  for (const warm of [false, true]) {
    const { verifier, clock, token, component } = setup()
    const hostile = hostileTokens(first, clock.now())
    t.ok(hostile.length >= 150, `${hostile.length} of them`)
    const good = token()
    if (warm) await verifier.identify(good)
    const later: typeof hostile[number][] = []
    const judge = ({ name, token: text }: typeof hostile[number], found: Identity | Unresolved): void => {
      if (found.kind === 'unavailable' && found.cause === null && later.length < 100) later.push({ name, token: text })
      else if (found.kind !== 'refused') t.fail(`${warm ? 'warm' : 'cold'}: ${name} gave ${found.kind}`)
      else if (!/^[\x20-\x7e]+$/.test(found.description) || found.description.includes('user_')) t.fail(`${name}: ${found.description}`)
    }
    for (const one of hostile) judge(one, await verifier.identify(one.token))
    t.equal(component.stats().keyFetches, 1, 'all within one cooldown')
    const unknown = later.splice(0)
    t.ok(unknown.length >= 20 && unknown.length <= 60, `${unknown.length} of them may be of a new key`)
    t.match(component.stats(), { refused: hostile.length - unknown.length, unavailable: unknown.length })
    const found = await identifyAfterCooldown(verifier, clock, unknown.map(({ token }) => token))
    unknown.forEach((one, index) => { judge(one, found[index]!) })
    t.same(later, [], 'and then none is left')
    t.equal(component.stats().refused, hostile.length)
    t.equal(component.stats().cachedTokens, warm ? 1 : 0)
    if (warm) t.equal((verifier.identify(good) as Identity).subject, 'user_1', 'the good one is still found')
  }
})

t.test('Other algorithms work when they are allowed, and a key serves its own algorithm only.', async t => {
  const ec = ecKey('ec')
  const { verifier, clock, endpoint } = setup({ algorithms: ['ES256', 'RS256'], keys: [ec, first] })
  const claims = sessionClaims(clock.now())
  const { SignJWT } = await import('jose')
  const good = await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: 'ec' }).sign(ec.privateKey)
  t.equal(await subjectOf(verifier.identify(good)), 'user_1')
  const zero = forge(ec, { header: { alg: 'ES256', kid: 'ec' }, claims, signature: Buffer.alloc(64) })
  const rsa = forge(first, { header: { alg: 'ES256', kid: 'ins_1' }, claims })
  for (const text of [zero, rsa]) t.match(await verifier.identify(text), notYet)
  t.equal(endpoint.calls, 1)
  for (const found of await identifyAfterCooldown(verifier, clock, [zero, rsa])) t.match(found, { kind: 'refused', description: 'The signature of the token is not valid' })
})

t.test('Keys of no use are left out of a set, and a lone key needs no kid.', async t => {
  const { verifier, clock, endpoint, source } = setup({ clockToleranceMs: 0 })
  const odd = [
    null, [], 'key', { kty: 'oct', k: 'AAAA', kid: 'ins_1' }, { ...jwkOf(second), use: 'enc' }, { ...jwkOf(second), kid: 5 },
    second.privateKey.export({ format: 'jwk' }), { ...jwkOf(first), kid: undefined }
  ]
  endpoint.answer = () => Response.json({ keys: odd })
  const withoutKid = forge(first, { header: { alg: 'RS256' }, claims: sessionClaims(clock.now()) })
  t.equal(await subjectOf(verifier.identify(withoutKid)), 'user_1')
  t.equal(source.stats.keys, 1)
  const weak = rsaKey('weak', 1024)
  const other = setup({ keys: [weak, first] })
  t.equal(await subjectOf(other.verifier.identify(other.token({}, weak))), 'The key of the token is not known', 'a short RSA key vouches for nothing')
})

t.test('A pending session is signed out, once its token has proved good.', async t => {
  const { verifier, token, component, clock } = setup()
  t.equal(await subjectOf(verifier.identify(token({ sts: 'pending' }))), 'anonymous')
  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(token({ sts: 'pending' }, sameKid))), 'The signature of the token is not valid')
  t.match(component.stats(), { pending: 1, refused: 1, cachedTokens: 0 })
})

t.test('Tolerance is the same for the first use and for every later one.', async t => {
  const { verifier, clock, token } = setup()
  const text = token()
  t.equal(await subjectOf(verifier.identify(text)), 'user_1')
  clock.advance(64_999)
  t.equal(await subjectOf(verifier.identify(text)), 'user_1', 'expired, within tolerance, found')
  t.equal(await subjectOf(setup().verifier.identify(text)), 'user_1')
  clock.advance(1)
  t.equal(await subjectOf(verifier.identify(text)), 'The token has expired')
  t.equal(await subjectOf(verifier.identify(text)), 'The token has expired', 'and stays so')

  const early = token({ nbf: undefined, iat: clock.now() / 1000 + 5 })
  t.equal(await subjectOf(verifier.identify(early)), 'user_1', 'made by a clock that is 5 s ahead')
  clock.jump(-1)
  t.equal(await subjectOf(verifier.identify(early)), 'The token is not valid yet', 'a clock set back counts for a known token too')
  clock.jump(1)
  t.ok((verifier.identify(early) as Identity).subject, 'and the token is still known when the clock is right again')
})

t.test('A token without flaws that was too early is accepted when its time has come.', async t => {
  const { verifier, clock, token } = setup()
  const text = token({ nbf: clock.now() / 1000 + 10 })
  t.equal(await subjectOf(verifier.identify(text)), 'The token is not valid yet')
  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(text)), 'user_1')
})

t.test('A remembered token is checked anew after recheckAfterMs, and each time when that is 0.', async t => {
  const { verifier, clock, token, component } = setup({ recheckAfterMs: 10_000 })
  const text = token()
  await verifier.identify(text)
  clock.advance(9999)
  await verifier.identify(text)
  t.match(component.stats(), { hits: 1, verified: 1 })
  clock.advance(1)
  await verifier.identify(text)
  t.match(component.stats(), { hits: 1, verified: 2 })
  const never = setup({ recheckAfterMs: 0 })
  const again = never.token()
  await never.verifier.identify(again)
  await never.verifier.identify(again)
  t.match(never.component.stats(), { hits: 0, verified: 2 })
})

t.test('A known token is found synchronously, without a promise.', async t => {
  const { verifier, token } = setup()
  const text = token()
  const identity = await verifier.identify(text)
  let promises = 0
  const hook = createHook({ init: (_id, type) => { if (type === 'PROMISE') promises++ } }).enable()
  let same = 0
  for (let turn = 0; turn < 1000; turn++) if (verifier.identify(`${text.slice(0, 1)}${text.slice(1)}`) === identity) same++
  const counted = promises
  Promise.resolve().then(() => {}).catch(() => {})
  hook.disable()
  t.equal(same, 1000)
  t.equal(counted, 0)
  t.ok(promises > 0, 'the counter does count')
})

t.test('As many tokens as maxTokens says are found again, in whatever order they come, and no more than twice as many are held.', t => {
  const identity = createIdentity({ issuer, subject: 'user_1' })
  const verified = { identity, fromMs: 0, untilMs: 1, key: { kind: 'key', trusted: true } } as const
  const shareOfHits = (maxTokens: number, active: number, pick: (turn: number) => number): number => {
    const cache = new TokenCache(maxTokens)
    const tokens = Array.from({ length: active }, (_, index) => signed(`token ${index}`))
    let hits = 0
    const turns = 20 * active
    for (let turn = 0; turn < active + turns; turn++) {
      const token = tokens[turn < active ? turn : pick(turn) % active]!
      if (cache.get(token, 0) !== null) hits++
      else cache.set(token, verified)
    }
    return hits / turns
  }
  const orders: Record<string, (turn: number) => number> = {
    'round robin': turn => turn,
    backwards: turn => -turn - 1 + 1_000_000_000,
    scattered: turn => Number(BigInt(turn) * 2_654_435_761n % 4_294_967_296n),
    'two turns each': turn => turn >> 1
  }
  for (const [order, pick] of Object.entries(orders)) {
    for (const [maxTokens, active] of [[1000, 950], [1000, 1000], [10, 10], [2, 2]] as const) {
      const share = shareOfHits(maxTokens, active, pick)
      t.ok(share >= 0.99, `${order}, ${active} active tokens under maxTokens: ${maxTokens}: ${share}`)
    }
  }
  const cache = new TokenCache(10)
  const tokens = Array.from({ length: 200 }, (_, index) => signed(`token ${index}`))
  for (const token of tokens) cache.set(token, verified)
  t.ok(cache.size <= 10)
  // From the latest back: asking for one moves it, and may drop what is older.
  const held = tokens.filter(token => {
    const again = new TokenCache(10)
    for (const other of tokens) again.set(other, verified)
    return again.get(token, 0) !== null
  })
  t.ok(held.length >= 10 && held.length <= 20, `${held.length} are held`)
  t.same(held, tokens.slice(-held.length), 'the latest')
  t.end()
})

t.test('A token with the end of a verified one is not found, and takes its place when it is verified, too.', t => {
  const [one, other] = [createIdentity({ issuer, subject: 'user_1' }), createIdentity({ issuer, subject: 'user_2' })]
  const cache = new TokenCache(10)
  const key = { kind: 'key' as const, trusted: true }
  cache.set(`one.${signed('')}`, { identity: one, fromMs: 0, untilMs: 1, key })
  t.equal(cache.get(`other.${signed('')}`, 0), null)
  t.equal(cache.get(`one.${signed('')}`, 0), one)
  cache.set(`other.${signed('')}`, { identity: other, fromMs: 0, untilMs: 1, key })
  t.equal(cache.get(`one.${signed('')}`, 0), null)
  t.equal(cache.get(`other.${signed('')}`, 0), other)
  for (const tooShort of ['', 'x', 'x'.repeat(6)]) t.equal(cache.get(tooShort, 0), null)
  t.end()
})

/** Looks like a token with a signature, which is as good as random. */
function signed (payload: string): string {
  return `header.${payload}.${createHash('sha256').update(payload).digest('base64url')}`
}

t.test('A token that is remembered counts only within its time and while its key is trusted, judged at each look-up.', t => {
  const identity = createIdentity({ issuer, subject: 'user_1' })
  const token = 'x'.repeat(60)
  const remembered = (key = { kind: 'key' as const, trusted: true }): { cache: TokenCache, key: { trusted: boolean } } => {
    const cache = new TokenCache(10)
    cache.set(token, { identity, fromMs: 1000, untilMs: 2000, key })
    return { cache, key }
  }
  const at = (nowMs: number): Identity | null => remembered().cache.get(token, nowMs)
  t.same([at(999), at(1000), at(1999), at(2000), at(NaN), at(Infinity)], [null, identity, identity, null, null, null])
  const { cache, key } = remembered()
  t.equal(cache.get(token, 1500), identity)
  key.trusted = false
  t.equal(cache.get(token, 1500), null, 'at the very next look-up')
  key.trusted = true
  t.equal(cache.get(token, 1500), null, 'and it has left')
  t.equal(cache.size, 0)
  t.end()
})

t.test('What is remembered of a token keeps nothing else in memory.', t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const identity = createIdentity({ issuer, subject: 'user_1' })
  const cache = new TokenCache(1000)
  collect()
  const before = process.memoryUsage().heapUsed
  for (let index = 0; index < 300; index++) {
    // As it comes: a slice of a header line, which here is 200 KB long.
    const header = Buffer.alloc(200_000, `${index}.`).toString('latin1')
    cache.set(header.slice(100, 1000), { identity, fromMs: 0, untilMs: 1, key: { kind: 'key', trusted: true } })
  }
  collect()
  const grown = process.memoryUsage().heapUsed - before
  t.equal(cache.size, 300, 'they are all held')
  t.ok(grown < 10_000_000, `${grown} bytes for 300 tokens of 1 KB`)
  t.end()
})

t.test('Without any keys the answer is unavailable, never refused, at one fetch per cooldown.', async t => {
  const { verifier, clock, endpoint, token, component } = setup()
  endpoint.fail()
  const answers = await Promise.all(Array.from({ length: 20 }, async (_, index) => await verifier.identify(token({ sub: `user_${index}` }))))
  t.ok(answers.every(answer => answer.kind === 'unavailable'))
  t.match(answers[0], { retryAfterMs: 5000, cause: { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE', message: /fetch failed/ } })
  t.equal(endpoint.calls, 1)
  t.match(await component.health(), { status: 'unhealthy' })
  clock.advance(4000)
  t.match(await verifier.identify(token()), { kind: 'unavailable', retryAfterMs: 1000 })
  t.equal(endpoint.calls, 1)
  t.equal(await subjectOf(verifier.identify('rubbish')), 'The token is malformed', 'a token that is wrong whatever the keys is still refused')
  endpoint.publish([first])
  clock.advance(1000)
  t.equal(await subjectOf(verifier.identify(token())), 'user_1')
  t.match(component.stats(), { unavailable: 21, keyFetches: 2, keyFetchFailures: 1 })
  t.match(await component.health(), { status: 'healthy', reason: 'The keys of the issuer are loaded', checkedAtMs: clock.now() })
})

t.test('Whatever is wrong with the endpoint, the last good keys stay in use.', async t => {
  const answers: Record<string, () => Response | Promise<Response>> = {
    'status 500': () => new Response('{"keys":[]}', { status: 500 }),
    'status 404 without a body': () => new Response(null, { status: 404 }),
    html: () => new Response('<html></html>'),
    'nothing at all': () => new Response(null),
    'an empty set': () => Response.json({ keys: [] }),
    null: () => Response.json(null),
    'no set': () => Response.json({ keys: 'none' }),
    'text instead of an object': () => Response.json('keys'),
    'more than 1 MiB': () => Response.json({ keys: [jwkOf(second)], fill: 'x'.repeat(1_048_576) }),
    'a thrown text': async () => await Promise.reject('text') // eslint-disable-line prefer-promise-reject-errors -- what a foreign fetch may do
  }
  for (const [name, answer] of Object.entries(answers)) {
    const { verifier, clock, endpoint, token, component } = setup()
    await verifier.identify(token())
    endpoint.answer = answer
    clock.advance(300_000)
    await clock.settle(10)
    t.equal(endpoint.calls, 2, name)
    t.equal(await subjectOf(verifier.identify(token({ sub: 'user_2' }))), 'user_2', name)
    t.match(await component.health(), { status: 'degraded' }, name)
    t.match(component.stats(), { keyFetchFailures: 1, keys: 2 })
  }
})

t.test('A fetch that hangs, even one that ignores its signal, ends after two seconds, and waiting for it ends too.', async t => {
  const { verifier, clock, endpoint, token } = setup()
  endpoint.answer = async () => await new Promise<Response>(() => {})
  const found = verifier.identify(token())
  await clock.settle()
  clock.advance(1999)
  await clock.settle()
  t.equal(await Promise.race([found, Promise.resolve('waiting')]), 'waiting')
  clock.advance(1)
  t.match(await found, { kind: 'unavailable', retryAfterMs: 3000, cause: { message: /did not answer within 2000 ms/ } })
})

t.test('An endpoint that is down for a day harms nobody whose key is known; after 24 hours the keys are no longer believed.', async t => {
  const { verifier, clock, endpoint, token, component } = setup()
  await verifier.identify(token())
  endpoint.fail()
  let failed = 0
  for (let minute = 1; minute < 1440; minute++) {
    clock.advance(60_000)
    await clock.settle(2)
    if (await subjectOf(verifier.identify(token())) !== 'user_1') failed++
  }
  t.equal(failed, 0)
  t.ok(endpoint.calls <= 1440, `${endpoint.calls} fetches`)
  const last = token({ exp: clock.now() / 1000 + 3600 })
  await verifier.identify(last)
  clock.advance(60_000)
  await clock.settle()
  t.equal(await subjectOf(verifier.identify(token())), 'unavailable')
  t.equal(await subjectOf(verifier.identify(last)), 'unavailable', 'tokens that are remembered included')
  t.match(await component.health(), { status: 'unhealthy' })
  endpoint.publish([first])
  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(last)), 'user_1')
})

t.test('A new key is fetched when a token names it, and a flood of invented kids costs one fetch per cooldown.', async t => {
  const { verifier, clock, endpoint, token } = setup({ keys: [first] })
  await verifier.identify(token())
  endpoint.publish([first, second])
  t.match(await verifier.identify(token({}, second)), { ...notYet, retryAfterMs: 5000 }, 'within the cooldown')
  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(token({}, second))), 'user_1', 'not remembered as refused')
  t.equal(endpoint.calls, 2)
  for (let round = 0; round < 3; round++) {
    clock.advance(5000)
    const flood = Array.from({ length: 50 }, async (_, index) => await subjectOf(verifier.identify(forge(first, { header: { alg: 'RS256', kid: `kid_${round}_${index}` }, claims: sessionClaims(clock.now()) }))))
    t.same(new Set(await Promise.all(flood)), new Set(['The key of the token is not known']))
    t.equal(endpoint.calls, 3 + round)
  }
})

t.test('A key replaced under its kid is noticed by the first signature that does not fit, and takes its tokens with it.', async t => {
  const { verifier, clock, endpoint, token } = setup({ keys: [first] })
  const old = token()
  await verifier.identify(old)
  endpoint.publish([sameKid])
  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(token({ sub: 'user_2' }, sameKid))), 'user_2')
  t.equal(endpoint.calls, 2)
  t.match(await verifier.identify(old), notYet)
  clock.advance(5000)
  await clock.settle()
  clock.advance(5000)
  t.equal(await subjectOf(verifier.identify(old)), 'The signature of the token is not valid')
})

t.test('A withdrawn key drops the tokens it verified, and no others, without being asked.', async t => {
  const { verifier, clock, endpoint, token, source, component } = setup({ recheckAfterMs: 3_600_000 })
  const exp = clock.now() / 1000 + 3600
  const [withdrawn, kept] = [token({ exp }), token({ exp, sub: 'user_2' }, second)]
  await verifier.identify(withdrawn)
  await verifier.identify(kept)
  endpoint.publish([second])
  clock.advance(299_999)
  t.equal(await subjectOf(verifier.identify(withdrawn)), 'user_1')
  clock.advance(1)
  await clock.settle()
  t.match(await verifier.identify(withdrawn), notYet, 'at once; the fetch was not made for it')
  const { hits } = component.stats()
  t.equal(await subjectOf(verifier.identify(kept)), 'user_2')
  t.equal(component.stats().hits, hits + 1, 'found, not verified again')
  t.match(await identifyAfterCooldown(verifier, clock, [withdrawn]), [{ kind: 'refused', description: 'The key of the token is not known' }])
  t.equal(endpoint.calls, 4)
  await clock.settle()
  source.close()
  t.equal(clock.pendingTimers, 0)
  clock.advance(600_000)
  await source.refresh()
  t.equal(endpoint.calls, 4, 'nothing is fetched after close')
})

t.test('Fetches never overlap, even without a cooldown.', async t => {
  const clock = new ManualClock()
  const endpoint = new KeyEndpoint([first])
  const source = new JwksSource({ location: { jwksUrl: issuer }, fetch: endpoint.fetch, clock, cooldownMs: 0 })
  await Promise.all([source.refresh(), source.refresh(), source.refresh()])
  t.equal(endpoint.calls, 1)
  await source.refresh()
  t.equal(endpoint.calls, 2)
  source.close()
})

t.test('Closing during a fetch leaves no timer behind.', async t => {
  const { clock, endpoint, source } = setup()
  let release = (): void => {}
  endpoint.answer = async () => await new Promise<Response>(resolve => { release = () => { resolve(Response.json({ keys: [jwkOf(first)] })) } })
  const refreshed = source.refresh()
  await clock.settle()
  source.close()
  release()
  await refreshed
  t.equal(clock.pendingTimers, 0)
})

t.test('With the application\'s verifier the claims are still ours to judge, and what it throws is a refusal.', async t => {
  const clock = new ManualClock()
  const asked: string[] = []
  const app = { verify (token: string) { asked.push(token); if (token.endsWith('A')) throw new Error('no') } }
  const options = resolveOptions({ clock, requireExpiry: false })
  const verifier = new TokenVerifier({ ...options, ...trustedIssuers(options, () => app) })
  const unsigned = (claims: object, header: object = { alg: 'HS256' }, end = 'BBBB'): string => `${encode(header)}.${encode(claims)}.${end}`
  const good = unsigned({ iss: 'urn:app', sub: 'user_1' })
  const identity = verifier.identify(good)
  t.match(identity, { kind: 'identity', issuer: 'urn:app', issuedAtMs: null }, 'synchronous')
  clock.advance(299_999)
  t.equal(verifier.identify(good), identity)
  t.equal(asked.length, 1)
  clock.advance(1)
  verifier.identify(good)
  t.equal(asked.length, 2, 'asked again after recheckAfterMs though the token never expires')
  t.match(verifier.identify(unsigned({ iss: 'urn:app', sub: 'user_1' }, undefined, 'AAAA')), { kind: 'refused', error: 'invalid_token' })
  asked.length = 0
  for (const [claims, header] of [
    [{ sub: 'user_1' }], [{ iss: 'with space', sub: 'user_1' }], [{ iss: 'urn:app' }], [{ iss: 'urn:app', sub: 'user_1', exp: 5 }], [{ iss: 'urn:app', sub: 'user_1' }, { alg: 'none' }]
  ] as const) t.match(verifier.identify(unsigned(claims, header)), { kind: 'refused' }, JSON.stringify(claims))
  t.equal(asked.length, 0, 'judged before the signature')
  t.match(new TokenVerifier({ ...options, ...trustedIssuers(options) }).identify(good), { kind: 'refused' }, 'without a verifier nothing is accepted')
  const component = identityComponent(verifier, [], clock)
  t.match(component.stats(), { keyFetches: 0, keys: 0 })
  t.match(await component.health(), { status: 'healthy', reason: 'Tokens are verified by the application' })
})

t.test('Instruments read the counters, and their labels hold results only.', async t => {
  const { verifier, token, component } = setup()
  t.match(await component.health(), { status: 'healthy', reason: 'No token has needed a key yet' })
  await verifier.identify(token())
  await verifier.identify('rubbish')
  t.same(Object.fromEntries(component.instruments.map(({ name, read }) => [name, read()])), {
    'orientor.session_identity.tokens': [
      { labels: { result: 'hits' }, value: 0 }, { labels: { result: 'verified' }, value: 1 }, { labels: { result: 'pending' }, value: 0 },
      { labels: { result: 'refused' }, value: 1 }, { labels: { result: 'unavailable' }, value: 0 }
    ],
    'orientor.session_identity.cached_tokens': [{ labels: {}, value: 1 }],
    'orientor.session_identity.keys': [{ labels: {}, value: 2 }],
    'orientor.session_identity.key_fetches': [{ labels: { result: 'succeeded' }, value: 1 }, { labels: { result: 'failed' }, value: 0 }]
  })
})

t.test('A token is read from the Authorization header, else from cookies of the form of a token, and from nowhere else.', async t => {
  const read = (authorization: string | undefined, cookie?: string, name: string | null = '__session'): string => {
    const found = readCredentials({ authorization, cookie }, authorization === undefined ? [] : ['Host', 'x', 'authorization', authorization], name)
    if (typeof found === 'string') return `token ${found}`
    if (!('kind' in found)) return `cookies ${found.join(' ')}`
    return found.kind === 'refused' ? found.error ?? '' : found.kind
  }
  const table: ReadonlyArray<readonly [header: string | undefined, cookie: string | undefined, expected: string]> = [
    [undefined, undefined, 'anonymous'],
    ['Bearer a.b.c', undefined, 'token a.b.c'],
    ['bearer a.b.c', undefined, 'token a.b.c'],
    ['BEARER a.b.c', undefined, 'token a.b.c'],
    ['Bearer  a.b.c', undefined, 'token a.b.c'],
    ['Bearer a b', undefined, 'token a b'],
    ['Bearer a.b.c', '__session=d.e.f', 'token a.b.c'],
    ['Bearer opaque', '__session=d.e.f', 'token opaque'],
    ['Bearer', '__session=d.e.f', 'invalid_request'],
    ['Bearer ', '__session=d.e.f', 'invalid_request'],
    ['Bearer   ', undefined, 'invalid_request'],
    ['Bearer\ta.b.c', '__session=d.e.f', 'invalid_request'],
    ['Bearer,a.b.c', undefined, 'invalid_request'],
    ['Bearer=a.b.c', undefined, 'invalid_request'],
    ['"Bearer" a.b.c', undefined, 'invalid_request'],
    [' Bearer a.b.c', undefined, 'invalid_request'],
    // Another scheme, or an empty header, falls through to the cookie.
    ['', undefined, 'anonymous'],
    ['', '__session=d.e.f', 'cookies d.e.f'],
    ['  ', '__session=d.e.f', 'cookies d.e.f'],
    ['Basic dXNlcjpwYXNz', undefined, 'anonymous'],
    ['Basic dXNlcjpwYXNz', '__session=d.e.f', 'cookies d.e.f'],
    ['BearerToken a.b.c', '__session=d.e.f', 'cookies d.e.f'],
    ['DPoP a.b.c', '__session=d.e.f', 'cookies d.e.f'],
    ['Negotiate', '__session=d.e.f', 'cookies d.e.f'],
    ['a.b.c', undefined, 'anonymous'],
    [undefined, '__session=d.e.f', 'cookies d.e.f'],
    [undefined, 'a=1; __session=d.e.f; b=2', 'cookies d.e.f'],
    [undefined, 'a=1;__session = d.e.f ;b', 'cookies d.e.f'],
    [undefined, '__session=d.e.f; __session=d.e.f', 'cookies d.e.f'],
    [undefined, '__session=d.e.f; __session=g.h.i', 'cookies d.e.f g.h.i'],
    [undefined, '__session=', 'anonymous'],
    [undefined, '__session', 'anonymous'],
    [undefined, '__session_a1b2-_34=d.e.f', 'cookies d.e.f'],
    [undefined, '__session_a1b2c3d4=g.h.i; __session=d.e.f', 'cookies g.h.i d.e.f'],
    [undefined, '__session_a1b2c3d4=d.e.f; __session_e5f6a7b8=g.h.i', 'cookies d.e.f g.h.i'],
    [undefined, '__session_a1b2c3d4=d.e.f; __session_e5f6a7b8=d.e.f', 'cookies d.e.f'],
    // Cookies of other uses under the same name.
    [undefined, '__session=%7B%22theme%22%3A1%7D', 'anonymous'],
    [undefined, '__session=s%3A1234.abcd; __session_a1b2c3d4=d.e.f', 'cookies d.e.f'],
    [undefined, '__session="d.e.f"', 'anonymous'],
    [undefined, '__session=a.b.c.d.e; __session=a.b; __session=.b.c; __session=1234', 'anonymous'],
    [undefined, '__session_short=d.e.f; __sessions=d.e.f; x__session=d.e.f; __session-a1b2c3d4=d.e.f; __session_a1b2c3.4=d.e.f', 'anonymous'],
    [undefined, '__Session=d.e.f; __session%3Dd.e.f; __session%5Fa1b2c3d4=d.e.f', 'anonymous'],
    [undefined, '', 'anonymous']
  ]
  for (const [header, cookie, expected] of table) t.equal(read(header, cookie), expected, `${JSON.stringify(header)} ${JSON.stringify(cookie)}`)
  t.equal(read(undefined, '__session=d.e.f', null), 'anonymous', 'cookies switched off')
  t.equal(read('Basic x', '__session=d.e.f', null), 'anonymous')
  t.equal(read(undefined, 'sid=d.e.f; __session=g.h.i', 'sid'), 'cookies d.e.f', 'a name of one\'s own')
  for (const more of [{}, { cookie: '__session=a.b.c' }]) {
    t.match(readCredentials({ authorization: 'Bearer a.b.c', ...more }, ['Authorization', 'Bearer a.b.c', 'AUTHORIZATION', 'Bearer d.e.f'], '__session'), { error: 'invalid_request' }, 'Node.js drops the second line')
    t.match(readCredentials({ authorization: '', ...more }, ['Authorization', '', 'Authorization', 'Bearer d.e.f'], '__session'), { error: 'invalid_request' })
  }
})

t.test('Options are complete and frozen, and a wrong one says what, the rule and what was received.', async t => {
  const { clock, fetch, lookup, ...plain } = resolveOptions({ issuer: 'https://id.example.com/', audience: 'api' })
  t.same(plain, {
    verify: 'jwks',
    identify: null,
    issuers: [{
      keys: { location: { discoverFrom: 'https://id.example.com/' }, algorithms: null },
      rules: {
        issuer: 'https://id.example.com/',
        isIssuerImplied: false,
        audience: ['api'],
        audienceClaim: ['aud'],
        authorizedParties: null,
        provider: null,
        tokenTypes: null,
        subject: null,
        algorithms: ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
        requireExpiry: true,
        clockToleranceMs: 5000,
        maxTokenLifetimeMs: 86_400_000
      }
    }],
    cookie: '__session',
    updatedAtClaim: null,
    recheckAfterMs: 300_000,
    maxTokens: 10_000,
    hub: { refuse: undefined, refuseAs: undefined }
  })
  t.ok(Object.isFrozen(resolveOptions({ issuer })))
  t.type(lookup, 'function', 'where the platform fetches')
  t.equal(resolveOptions({ issuer, fetch }).lookup, null, 'the network of another fetch is not ours to look at')
  t.match(resolveOptions({ issuer: 'urn:issuer', jwksUrl: 'http://127.0.0.1/keys' }).issuers, [{ keys: { location: { jwksUrl: 'http://127.0.0.1/keys' } } }])
  t.match(resolveOptions(undefined), { verify: 'fastify-jwt', issuers: [{ keys: null, rules: { issuer: null, algorithms: null } }] })
  t.match(resolveOptions({ verify: 'fastify-jwt', issuer, cookie: false }), { verify: 'fastify-jwt', issuers: [{ keys: null, rules: { issuer, isIssuerImplied: false } }], cookie: null })
  t.match(resolveOptions({ issuer: { always: 'my-app' } }), { verify: 'fastify-jwt', issuers: [{ keys: null, rules: { issuer: 'my-app', isIssuerImplied: true } }] })
  t.match(resolveOptions({ issuer, maxTokenLifetimeMs: 30 * 86_400_000, recheckAfterMs: 30 * 86_400_000 }), { recheckAfterMs: 2_592_000_000, issuers: [{ rules: { maxTokenLifetimeMs: 2_592_000_000 } }] }, 'a claim\'s duration is no timer')
  t.match(resolveOptions({ issuer, refuse: 'always', refuseAs: 'error' }), { hub: { refuse: 'always', refuseAs: 'error' } })
  t.match(resolveOptions({ audience: 'api', algorithms: ['ES256'], issuers: [{ issuer: 'https://a.example.com' }, { issuer: 'urn:b', jwksUrl: 'https://b.example.com/keys', audience: ['b'], authorizedParties: [party], algorithms: ['RS256'] }] }).issuers, [
    { keys: { location: { discoverFrom: 'https://a.example.com' }, algorithms: ['ES256'] }, rules: { issuer: 'https://a.example.com', audience: ['api'], authorizedParties: null, algorithms: ['ES256'] } },
    { keys: { location: { jwksUrl: 'https://b.example.com/keys' }, algorithms: ['RS256'] }, rules: { issuer: 'urn:b', audience: ['b'], authorizedParties: [party], algorithms: ['RS256'] } }
  ], 'what an issuer leaves out is as the plugin\'s own option says')
  const identify: Identify = () => anonymous
  t.match(resolveOptions({ identify, clock: new ManualClock() }), { identify, issuers: [] })
  const wrong: ReadonlyArray<readonly [object, RegExp]> = [
    [{ isuer: issuer }, /option "isuer" is not known/],
    [{ issuers: issuer }, /option "issuers" must be a list/],
    [{ issuers: [] }, /option "issuers" must be a list of at least 1/],
    [{ issuers: [issuer] }, /option "issuers" must be a list/],
    [{ issuers: [{ issuer }, { issuer, jwksUrl: 'https://b.example.com' }] }, /must name each issuer once; received "https:\/\/clerk.example.com" twice/],
    [{ issuers: [{ issuer }, { issuer: 'urn:b' }] }, /option "jwksUrl" is missing/],
    [{ issuers: [{ issuer }, { isuer: issuer }] }, /issuers\[1\]: option "isuer" is not known/],
    [{ issuers: [{ jwksUrl: 'https://b.example.com' }] }, /issuers\[0\]: option "issuer" is missing/],
    [{ issuer, issuers: [{ issuer }] }, /option "issuer" must not be given with "issuers"/],
    [{ jwksUrl: 'https://b.example.com', issuers: [{ issuer }] }, /option "jwksUrl" must not be given with "issuers"/],
    [{ verify: 'fastify-jwt', issuers: [{ issuer }] }, /option "issuers" must not be given with verify: "fastify-jwt"/],
    [{ identify: () => anonymous, issuer }, /option "issuer" must not be given with "identify"/],
    [{ identify: () => anonymous, verify: 'jwks' }, /option "verify" must not be given with "identify"/],
    [{ identify: 'jwt' }, /option "identify" must be a function/],
    [{ issuer: 'https://a b' }, /option "issuer" must be a non-empty string without white space, or \{ always: 'such a string' \}; received "https:\/\/a b"/],
    [{ issuer: { always: 'a b' } }, /option "issuer" must be/],
    [{ issuer: { always: 'my-app', issuer } }, /option "issuer" must be/],
    [{ issuer: { always: 'my-app' }, verify: 'jwks' }, /option "issuer" must be a name with verify: "jwks"/],
    [{ issuer, provider: 'auth0' }, /option "provider" must be one of "clerk", "other"/],
    [{ issuer, authorizedParties: ['https://app.example.com', 'https://app.example.com/'] }, /option "authorizedParties" must name origins .*; received "https:\/\/app.example.com\/"\. Write "https:\/\/app.example.com"/],
    [{ issuer, authorizedParties: ['https://App.example.com'] }, /Write "https:\/\/app.example.com"/],
    [{ issuer, authorizedParties: ['https://app.example.com:443'] }, /authorizedParties/],
    [{ issuer, tokenTypes: ['at+jwt'] }, /option "audience" is missing; it must be given where "tokenTypes" names "at\+jwt"/],
    [{ issuer, tokenTypes: ['JWE'] }, /tokenTypes/],
    [{ issuer, subject: [] }, /subject/],
    [{ issuer, audienceClaim: 5 }, /audienceClaim/],
    [{ issuer, requireExpiry: 'no' }, /requireExpiry/],
    [{ issuer, maxTokenLifetimeMs: Infinity }, /maxTokenLifetimeMs/],
    [{ issuer, refuse: 'never' }, /option "refuse" must be one of "required", "always"/],
    [{ issuer: '' }, /issuer/],
    [{ issuer: 'urn:issuer' }, /option "jwksUrl" is missing/],
    [{ issuer: 'https://id.example.com/?tenant=1' }, /option "jwksUrl" is missing; it must be given when "issuer" is not an http or https URL without query and fragment/],
    [{ issuer: 'https://id.example.com/#tenant' }, /option "jwksUrl" is missing/],
    [{ issuer: 'https://user@id.example.com' }, /option "jwksUrl" is missing/],
    [{ verify: 'jwks' }, /option "issuer" is missing/],
    [{ jwksUrl: 'https://id.example.com/keys' }, /option "issuer" is missing/],
    [{ issuer, jwksUrl: 'file:///etc/passwd' }, /option "jwksUrl" must be an http or https URL/],
    [{ issuer, jwksUrl: 'https://user:pass@id.example.com' }, /without user name/],
    [{ issuer, jwksUrl: 'nonsense' }, /jwksUrl/],
    [{ issuer, jwksUrl: 5 }, /jwksUrl/],
    [{ verify: 'fastify-jwt', jwksUrl: 'https://id.example.com/keys' }, /must not be given with verify: "fastify-jwt"/],
    [{ issuer, algorithms: ['HS256'] }, /algorithms/],
    [{ issuer, algorithms: [] }, /algorithms/],
    [{ issuer, audience: [] }, /audience/],
    [{ issuer, authorizedParties: [''] }, /authorizedParties/],
    [{ issuer, cookie: 'a b' }, /cookie/],
    [{ issuer, cookie: true }, /cookie/],
    [{ issuer, clockToleranceMs: Infinity }, /clockToleranceMs/],
    [{ issuer, clockToleranceMs: 60_001 }, /clockToleranceMs/],
    [{ issuer, maxTokens: 1 }, /maxTokens/],
    [{ issuer, fetch: 'fetch' }, /fetch/],
    [{ issuer, clock: {} }, /clock/]
  ]
  for (const [input, message] of wrong) t.throws(() => resolveOptions(input), { code: 'ORI_CONTRACT_INVALID_OPTION', message }, JSON.stringify(input))
})
