import { fastify } from 'fastify'
import t from 'tap'
import type { Identity, Sync, Unresolved } from '@orientor/session-contract/core'
import { ManualClock, until } from '@orientor/test-kit'
import { TokenVerifier, resolveOptions, trustedIssuers, type Lookup, type SessionIdentityOptions } from '../src/core.js'
import { JwksSource } from '../src/jwks-source.js'
import { identityComponent } from '../src/identity-component.js'
import { systemLookup } from '../src/private-host.js'
import { identifyAfterCooldown } from './fixtures/after-cooldown.js'
import { forge, rsaKey, sessionClaims, type SigningKey } from './fixtures/token-issuer.js'
import { Web } from './fixtures/web.js'

const key = rsaKey('key_1')
const next = rsaKey('key_2')
const issuer = 'https://id.example.com/realms/app'
const configurationUrl = `${issuer}/.well-known/openid-configuration`
const jwksUrl = 'https://keys.example.net/app'

/** An issuer that says where its keys are, and a verifier that is told the issuer and nothing else. */
function setup (
  input: SessionIdentityOptions & { readonly issuer?: string } = {},
  configuration: unknown = { issuer, jwks_uri: jwksUrl }
) {
  const web = new Web()
  web.publish(configurationUrl, configuration)
  web.publishKeys(jwksUrl, key)
  const clock = new ManualClock()
  const options = resolveOptions({ issuer, fetch: web.fetch, ...input, clock })
  const { policies, sources } = trustedIssuers(options)
  const verifier = new TokenVerifier({ ...options, policies })
  const component = identityComponent(verifier, sources, clock)
  const token = (by: SigningKey = key, more: object = {}): string => tokenOf(by, input.issuer ?? issuer, clock.now(), more)
  const identify = async (text = token()): Promise<string> => await subjectOf(verifier.identify(text))
  return { web, clock, verifier, source: sources[0]!, component, token, identify }
}

function tokenOf (by: SigningKey, iss: string, nowMs: number, more: object = {}): string {
  return forge(by, { header: { alg: 'RS256', kid: by.kid }, claims: sessionClaims(nowMs, { iss, ...more }) })
}

async function subjectOf (found: Sync<Identity | Unresolved>): Promise<string> {
  const settled = await found
  if (settled.kind === 'identity') return settled.subject
  return settled.kind === 'refused' ? settled.description : settled.kind
}

/** Moves the clock in steps, so that fetches have time to answer. */
async function pass (clock: ManualClock, ms: number): Promise<void> {
  for (let leftMs = ms; leftMs > 0; leftMs -= 1000) {
    clock.advance(Math.min(1000, leftMs))
    await clock.settle()
  }
}

t.test('With an issuer alone the keys are where its discovery document says, however the issuer is spelt.', async t => {
  const spellings: ReadonlyArray<readonly [issuer: string, configuration: string]> = [
    ['https://id.example.com', 'https://id.example.com/.well-known/openid-configuration'],
    ['https://tenant.eu.auth0.com/', 'https://tenant.eu.auth0.com/.well-known/openid-configuration'],
    ['https://id.example.com/realms/app', 'https://id.example.com/realms/app/.well-known/openid-configuration'],
    ['https://id.example.com/realms/app/', 'https://id.example.com/realms/app/.well-known/openid-configuration'],
    ['https://id.example.com:8443/oauth2/default', 'https://id.example.com:8443/oauth2/default/.well-known/openid-configuration']
  ]
  for (const [name, url] of spellings) {
    const { web, identify } = setup({ issuer: name })
    web.publish(url, { issuer: name, jwks_uri: jwksUrl })
    t.equal(await identify(), 'user_1', name)
    t.same(web.asked, [[url, 'application/json'], [jwksUrl, 'application/jwk-set+json, application/json']], name)
  }
})

t.test('Where the issuer publishes no document (404) the keys are at /.well-known/jwks.json; any other answer is an outage, with its reason.', async t => {
  for (const name of ['https://clerk.example.com', 'https://id.example.com/app/', 'http://127.0.0.1:4010']) {
    const { web, identify } = setup({ issuer: name })
    const base = name.replace(/\/$/, '')
    web.publishKeys(`${base}/.well-known/jwks.json`, key)
    t.equal(await identify(), 'user_1', name)
    t.same(web.urls, [`${base}/.well-known/openid-configuration`, `${base}/.well-known/jwks.json`])
  }
  const answers: Record<string, readonly [() => Response, RegExp]> = {
    'status 500': [() => new Response(null, { status: 500 }), /status 500/],
    'status 403': [() => new Response('Forbidden', { status: 403 }), /status 403/],
    'status 410': [() => new Response(null, { status: 410 }), /status 410/],
    html: [() => new Response('<html></html>'), /not JSON/],
    nothing: [() => new Response(null), /not JSON/],
    'a list': [() => Response.json([issuer]), /describes the issuer undefined/],
    null: [() => Response.json(null), /describes the issuer undefined/],
    'more than 1 MiB': [() => Response.json({ issuer, jwks_uri: jwksUrl, fill: 'x'.repeat(1_048_576) }), /larger than 1048576 bytes/]
  }
  for (const [name, [answer, reason]] of Object.entries(answers)) {
    const { web, verifier, component, token } = setup()
    web.publishKeys(`${issuer}/.well-known/jwks.json`, key)
    web.documents.set(configurationUrl, answer)
    const cause = { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE', message: reason }
    t.match(await verifier.identify(token()), { kind: 'unavailable', retryAfterMs: 5000, cause }, name)
    t.match(await verifier.identify(token()), { cause: { message: configurationUrl } }, `${name}: says who was asked`)
    t.same(web.urls, [configurationUrl], `${name}: no keys are asked for`)
    t.match(await component.health(), { status: 'unhealthy', reason: 'The keys of the issuer cannot be discovered' }, name)
  }
})

t.test('A document that is not exactly this issuer\'s own is not believed, and the reason says what to do.', async t => {
  const others: readonly unknown[] = [
    `${issuer}/`, issuer.replace('https', 'http'), issuer.toUpperCase(), 'https://id.example.com',
    'https://id.example.com/realms/other', 'https://evil.example', 'https://login.microsoftonline.com/{tenantid}/v2.0', undefined, null, [issuer], { toString: issuer }, 5, ''
  ]
  for (const other of others) {
    const { web, verifier, token } = setup({}, { issuer: other, jwks_uri: jwksUrl })
    const found = await verifier.identify(token())
    t.match(found, { kind: 'unavailable', cause: { message: /describes the issuer .*, and must describe exactly / } }, JSON.stringify(other))
    t.match(found, { cause: { message: `"${issuer}"; name the issuer as it does, or give its keys as "jwksUrl"` } })
    t.same(web.urls, [configurationUrl], 'no keys are asked for')
  }
  const { identify } = setup({ jwksUrl }, { issuer: 'https://evil.example', jwks_uri: 'https://evil.example' })
  t.equal(await identify(), 'user_1', 'with a jwksUrl no document is asked for')
})

t.test('A jwks_uri must be an https URL without credentials; http only where the issuer is http.', async t => {
  const refused: readonly unknown[] = [
    'http://keys.example.net/app', 'ftp://keys.example.net/app', 'file:///etc/keys.json', 'data:application/json,{"keys":[]}',
    'javascript:alert(1)', 'https://user:pass@keys.example.net/app', 'https://user@keys.example.net/app', '/keys',
    '//keys.example.net/app', 'keys.example.net', 'https://', '', undefined, null, 5, ['https://keys.example.net/app'], {}
  ]
  for (const url of refused) {
    const { web, verifier, token } = setup({}, { issuer, jwks_uri: url })
    const found = await verifier.identify(token())
    t.match(found, { kind: 'unavailable', cause: { message: /its "jwks_uri" must be an https URL/ } }, JSON.stringify(url))
    t.same(web.urls, [configurationUrl])
  }
  const local = 'http://127.0.0.1:8080/realms/app'
  for (const url of ['http://127.0.0.1:8080/realms/app/certs', 'http://localhost:9000/certs', 'https://keys.example.net/app']) {
    const { web, identify } = setup({ issuer: local })
    web.publish(`${local}/.well-known/openid-configuration`, { issuer: local, jwks_uri: url })
    web.publishKeys(url, key)
    t.equal(await identify(), 'user_1', url)
  }
})

t.test('No redirect is followed, from the document or from the keys.', async t => {
  const server = fastify()
  let evil = 0
  const url = await new Promise<string>((resolve, reject) => {
    server.get('/direct/.well-known/openid-configuration', () => ({ issuer: `${url}/direct`, jwks_uri: `${url}/moved` }))
    server.get('/moved', (_request, reply) => reply.redirect('/evil'))
    for (const status of [301, 302, 303, 307, 308]) {
      server.get(`/${status}/.well-known/openid-configuration`, (_request, reply) => reply.redirect('/evil', status))
    }
    server.get('/evil', () => {
      evil++
      return { issuer: `${url}/302`, jwks_uri: `${url}/evil`, keys: [] }
    })
    server.listen({ port: 0, host: '127.0.0.1' }).then(resolve, reject)
  })
  t.teardown(async () => { await server.close() })
  for (const path of ['301', '302', '303', '307', '308', 'direct']) {
    const { verifier, clock } = setup({ issuer: `${url}/${path}`, fetch: undefined as never })
    const found = await verifier.identify(tokenOf(key, `${url}/${path}`, clock.now()))
    t.match(found, { kind: 'unavailable', cause: { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE' } }, path)
  }
  t.equal(evil, 0)
})

t.test('A jwks_uri in a private place is refused, in whatever spelling, unless the issuer is in such a place.', async t => {
  const places = [
    '127.0.0.1', '127.1', '2130706433', '0x7f.0.0.1', '017700000001', '10.0.0.1', '172.16.0.1', '172.31.255.254', '192.168.1.1',
    '169.254.169.254', '100.64.0.1', '100.127.255.254', '0.0.0.0', '0', '192.0.0.1', '198.18.0.1', '224.0.0.1', '255.255.255.255',
    '[::1]', '[::]', '[::ffff:127.0.0.1]', '[::ffff:a00:1]', '[::127.0.0.1]', '[fe80::1]', '[fc00::1]', '[fd12:3456::1]', '[fec0::1]',
    '[ff02::1]', '[64:ff9b::10.0.0.1]', '[64:ff9b:1::1]', '[2002:7f00:1::]', '[2001::1]', '[2001:db8::1]', '[100::1]', 'localhost',
    'LOCALHOST', 'localhost.', 'keys.localhost', 'printer.local', 'metadata.google.internal', 'router.home.arpa', 'keycloak', 'metadata'
  ]
  for (const place of places) {
    const url = `https://${place}/keys`
    const { web, verifier, token } = setup({}, { issuer, jwks_uri: url })
    web.publishKeys(url, key)
    const found = await verifier.identify(token())
    t.match(found, { kind: 'unavailable', cause: { message: /must not be in a private network.*give it as "jwksUrl"/ } }, place)
    t.same(web.urls, [configurationUrl], `${place}: not asked`)
  }
  const publicPlaces = [
    'keys.example.net', '8.8.8.8', '100.63.255.255', '100.128.0.1', '172.15.0.1', '172.32.0.1', '[2606:4700::1111]', '[::ffff:8.8.8.8]',
    '[64:ff9b::8.8.8.8]', '[2002:808:808::]', 'internal.example.com', 'localhost.example.com', 'notlocal.com'
  ]
  for (const place of publicPlaces) {
    const url = `https://${place}/keys`
    const { web, identify } = setup({}, { issuer, jwks_uri: url })
    web.publishKeys(url, key)
    t.equal(await identify(), 'user_1', place)
  }
  for (const own of ['http://keycloak:8080/realms/app', 'https://10.1.2.3', 'http://localhost:4000', 'https://id.corp.internal', 'https://[fd00::1]']) {
    for (const url of ['https://10.0.0.1/keys', 'https://keys.localhost/app']) {
      const { web, identify } = setup({ issuer: own })
      web.publish(`${own}/.well-known/openid-configuration`, { issuer: own, jwks_uri: url })
      web.publishKeys(url, key)
      t.equal(await identify(), 'user_1', `${own} ${url}`)
    }
  }
})

t.test('Where the platform fetches, a host is judged by the addresses that its name has.', async t => {
  const addresses: Record<string, readonly string[]> = {
    'id.example.com': ['93.184.216.34', '2606:2800:220:1::1'],
    'keys.example.net': ['8.8.8.8'],
    'rebound.example.net': ['8.8.8.8', '127.0.0.1'],
    'six.example.net': ['fd00::1'],
    'mapped.example.net': ['::ffff:10.0.0.1'],
    'metadata.example.net': ['169.254.169.254'],
    'nat64.example.net': ['64:ff9b::808:808', '8.8.8.8'],
    'id.corp.example': ['10.0.0.5'],
    'half.corp.example': ['93.184.215.14', '10.0.0.5'],
    'keys.corp.example': ['10.0.0.6']
  }
  const looked: string[] = []
  const lookup: Lookup = async name => {
    looked.push(name)
    const found = addresses[name]
    if (found === undefined) throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' })
    return found
  }
  const keysOf = async (own: string, url: string): Promise<string> => {
    const web = new Web()
    web.publish(`${own}/.well-known/openid-configuration`, { issuer: own, jwks_uri: url })
    web.publishKeys(url, key)
    looked.length = 0
    const source = new JwksSource({ location: { discoverFrom: own }, fetch: web.fetch, lookup, clock: new ManualClock() })
    await source.refresh()
    source.close()
    if (source.failure === null) return `${source.keys.length} key`
    return /private network/.exec(source.failure.message)?.[0] ?? source.failure.message
  }
  for (const name of ['rebound', 'six', 'mapped', 'metadata']) {
    t.equal(await keysOf('https://id.example.com', `https://${name}.example.net/keys`), 'private network', name)
  }
  t.equal(await keysOf('https://id.example.com', 'https://keys.example.net/keys'), '1 key')
  t.same(looked, ['keys.example.net'])
  t.equal(await keysOf('https://id.example.com', 'https://nat64.example.net/keys'), '1 key', 'a public address by way of NAT64')
  t.equal(await keysOf('https://id.corp.example', 'https://id.corp.example/keys'), '1 key', 'the issuer\'s own host, wherever it is')
  t.same(looked, [])
  t.equal(await keysOf('https://id.corp.example', 'https://keys.corp.example/keys'), '1 key', 'a private network whose names are like public ones')
  t.equal(await keysOf('https://id.example.com', 'https://keys.corp.example/keys'), 'private network')
  const half = await keysOf('https://half.corp.example', 'https://keys.corp.example/keys')
  t.equal(half, 'private network', 'an issuer that is private by one of its addresses only')
  const unknown = await keysOf('https://id.example.com', 'https://nowhere.example.net/keys')
  t.equal(unknown, '1 key', 'what cannot be looked up is for fetch to find, by a proxy perhaps')
  t.ok((await systemLookup('localhost')).some(address => address === '127.0.0.1' || address === '::1'))
})

t.test('Discovery and keys have two seconds together, and what comes too late counts for nothing.', async t => {
  const slow = setup()
  const release = slow.web.hold(configurationUrl)
  slow.web.hold(jwksUrl)
  const first = slow.verifier.identify(slow.token())
  await slow.clock.settle()
  slow.clock.advance(1500)
  release({ issuer, jwks_uri: jwksUrl })
  await slow.clock.settle()
  t.same(slow.web.urls, [configurationUrl, jwksUrl])
  slow.clock.advance(500)
  t.match(await first, { kind: 'unavailable', retryAfterMs: 3000, cause: { message: /keys\.example\.net\/app: it did not answer within 2000 ms/ } })

  const late = setup()
  const releaseLate = late.web.hold(configurationUrl)
  const second = late.verifier.identify(late.token())
  await late.clock.settle()
  late.clock.advance(2000)
  t.match(await second, { kind: 'unavailable', cause: { message: /openid-configuration: it did not answer within 2000 ms/ } })
  releaseLate({ issuer, jwks_uri: 'https://late.example.net/keys' })
  await late.clock.settle()
  late.web.publish(configurationUrl, { issuer, jwks_uri: jwksUrl })
  late.clock.advance(3000)
  t.equal(await late.identify(), 'user_1')
  t.equal(late.web.urls.at(-2), configurationUrl, 'discovered anew')
  t.equal(late.web.urls.at(-1), jwksUrl)
})

t.test('A hundred tokens at once cost one discovery and one fetch of the keys.', async t => {
  const { web, verifier, token } = setup()
  const tokens = Array.from({ length: 100 }, (_, index) => token(key, { sub: `user_${index}` }))
  const found = await Promise.all(tokens.map(async text => await subjectOf(verifier.identify(text))))
  t.same(found, Array.from({ length: 100 }, (_, index) => `user_${index}`))
  t.same(web.urls, [configurationUrl, jwksUrl])
})

t.test('A discovery is kept as keys are: asked again with the scheduled refresh, not by a token of an unknown key before it.', async t => {
  const { web, clock, verifier, identify, token, source } = setup()
  t.equal(await identify(), 'user_1')
  await pass(clock, 60_000)
  web.asked.length = 0
  web.publishKeys(jwksUrl, key, next)
  t.equal(await identify(token(next)), 'user_1')
  t.same(web.urls, [jwksUrl], 'a minute later: from the place that is known')

  web.asked.length = 0
  web.publish(configurationUrl, { issuer, jwks_uri: 'https://moved.example.net/keys' })
  web.publishKeys('https://moved.example.net/keys', next)
  await pass(clock, 299_000)
  t.same(web.urls, [], 'not yet')
  await pass(clock, 1000)
  t.same(web.urls, [configurationUrl, 'https://moved.example.net/keys'], 'the keys have moved')
  t.equal(source.keys.length, 1)
  t.match(await identifyAfterCooldown(verifier, clock, [token()]), [{ kind: 'refused' }], 'and one was left behind')
  source.close()
})

t.test('When the discovery fails the last one stays in use for 24 hours, its keys are still refreshed, and health says so.', async t => {
  const undiscovered = { status: 'degraded', reason: 'The keys of the issuer cannot be discovered; the last ones are in use' }
  const faults: Record<string, (web: Web) => void> = {
    'the network': web => { web.fail(configurationUrl) },
    'status 503': web => { web.documents.set(configurationUrl, () => new Response(null, { status: 503 })) },
    'another issuer': web => { web.publish(configurationUrl, { issuer: 'https://other.example', jwks_uri: jwksUrl }) },
    'a private place': web => { web.publish(configurationUrl, { issuer, jwks_uri: 'https://169.254.169.254/keys' }) },
    'no answer': web => { web.hold(configurationUrl) },
    'not found, nor keys at the well-known place': web => { web.documents.delete(configurationUrl) }
  }
  for (const [name, fault] of Object.entries(faults)) {
    const { web, clock, verifier, identify, token, component, source } = setup()
    t.equal(await identify(), 'user_1', name)
    fault(web)
    web.publishKeys(jwksUrl, key, next)
    await pass(clock, 302_000)
    t.equal(await identify(token(key, { sub: 'user_2' })), 'user_2', `${name}: a known key`)
    if (!name.startsWith('not found')) {
      t.equal(await identify(token(next)), 'user_1', `${name}: a key that was added meanwhile`)
      t.match(await component.health(), undiscovered, name)
      t.match(source.failure, { message: configurationUrl }, name)
    }
    const other = await verifier.identify(token(rsaKey('key_3')))
    const cause = { code: 'ORI_IDENTITY_KEYS_UNAVAILABLE' }
    t.match(other, { kind: 'unavailable', cause }, `${name}: the place may have moved, so nothing is refused`)
    web.publish(configurationUrl, { issuer, jwks_uri: jwksUrl })
    await pass(clock, 6000)
    t.match(await component.health(), { status: 'healthy' }, `${name}: over`)
    t.match(await identifyAfterCooldown(verifier, clock, [token(rsaKey('key_3'))]), [{ kind: 'refused' }], `${name}: over, and refused`)
    source.close()
  }
  const { web, clock, verifier, identify, token, component, source } = setup()
  const hours = async (count: number): Promise<void> => {
    for (let hour = 0; hour < count; hour += 4) {
      clock.advance(4 * 3_600_000 - 10_000)
      await pass(clock, 10_000)
    }
  }
  t.equal(await identify(), 'user_1')
  web.fail(configurationUrl)
  await hours(24)
  t.match(await verifier.identify(token()), { kind: 'identity' }, 'the keys were refreshed to the last')
  t.match(await component.health(), undiscovered)
  await hours(24)
  t.match(await verifier.identify(token()), { kind: 'unavailable', cause: { message: configurationUrl } }, 'and no longer')
  t.match(await component.health(), { status: 'unhealthy', reason: 'The keys of the issuer cannot be discovered' })
  source.close()
})

t.test('When keys cannot be had from where they were discovered, the next load discovers anew.', async t => {
  const faults: Record<string, (web: Web) => void> = {
    'not found': web => { web.documents.delete(jwksUrl) },
    'the network': web => { web.fail(jwksUrl) },
    'no key set': web => { web.publish(jwksUrl, { keys: [] }) },
    'no answer': web => { web.hold(jwksUrl) }
  }
  for (const [name, fault] of Object.entries(faults)) {
    const { web, clock, identify, token, component, source } = setup()
    t.equal(await identify(), 'user_1', name)
    await pass(clock, 10_000)
    web.asked.length = 0
    fault(web)
    web.publish(configurationUrl, { issuer, jwks_uri: 'https://moved.example.net/keys' })
    web.publishKeys('https://moved.example.net/keys', next)
    const waiting = identify(token(next))
    await clock.settle()
    await pass(clock, 2000)
    t.equal(await waiting, 'unavailable', name)
    t.same(web.urls, [jwksUrl], name)
    t.match(await component.health(), { status: 'degraded', reason: 'The keys of the issuer cannot be loaded; the last ones are in use' }, name)
    await pass(clock, 5000)
    t.same(web.urls, [jwksUrl, configurationUrl, 'https://moved.example.net/keys'], name)
    t.equal(await identify(token(next)), 'user_1', name)
    source.close()
  }
})

t.test('A real issuer is discovered by the platform\'s own fetch, at a private address as it has one itself.', async t => {
  const server = fastify()
  let url = ''
  server.get('/realms/app/.well-known/openid-configuration', async (_request, reply) => {
    const body = JSON.stringify({ issuer: `${url}/realms/app`, jwks_uri: `${url}/realms/app/certs` })
    return await reply.type('application/json').send(`\ufeff${body}`)
  })
  const web = new Web()
  web.publishKeys('keys', key)
  server.get('/realms/app/certs', async (_request, reply) => {
    const { keys } = await (await web.documents.get('keys')!(new AbortController().signal)).json() as { keys: object[] }
    return await reply.type('application/jwk-set+json').send(`\ufeff${JSON.stringify({ keys })}`)
  })
  url = await server.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(async () => { await server.close() })
  const { verifier, clock, source } = setup({ issuer: `${url}/realms/app`, fetch: undefined as never })
  t.equal(await subjectOf(verifier.identify(tokenOf(key, `${url}/realms/app`, clock.now()))), 'user_1')
  await until('keys', () => source.keys.length === 1)
  source.close()
})
