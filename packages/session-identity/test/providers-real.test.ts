import { fastify, type FastifyInstance } from 'fastify'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import t, { type Test } from 'tap'
import { ManualClock } from '@orientor/test-kit'
import sessionIdentity, { type SessionIdentityOptions } from '../src/index.js'
import { afterCooldown } from './fixtures/after-cooldown.js'
import { betterAuthApi, betterAuthIssuer } from './fixtures/better-auth-issuer.js'
import { api, oidcProviderIssuer } from './fixtures/oidc-provider-issuer.js'

interface App {
  readonly app: FastifyInstance
  readonly clock: ManualClock
  /** The subject that a token names, or the status and the reason. */
  readonly get: (token: string) => Promise<string>
}

/** An app that an operator sets up with these options and nothing else, but for the time. */
async function appWith (t: Test, options: SessionIdentityOptions): Promise<App> {
  const clock = new ManualClock({ now: Date.now() })
  const app = fastify()
  await app.register(sessionIdentity, { ...options, clock })
  app.get('/', { config: { session: { required: true } } }, request => request.identity?.subject)
  t.teardown(async () => { await app.close() })
  const get = async (token: string): Promise<string> => {
    const { statusCode, body } = await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })
    return statusCode === 200 ? body : `${statusCode} ${(JSON.parse(body) as { detail: string }).detail}`
  }
  return { app, clock, get }
}

t.test('Tokens of a real oidc-provider are accepted by its issuer and the audience alone, whatever key signed them.', async t => {
  const provider = await oidcProviderIssuer(t)
  const { app, clock, get } = await appWith(t, { issuer: provider.url, audience: api })
  for (const alg of ['RS256', 'ES256', 'EdDSA'] as const) {
    const { access_token: accessToken, id_token: idToken } = await provider.signIn(alg)
    t.match(decodeProtectedHeader(accessToken), { alg, typ: 'at+jwt' })
    t.equal(await get(accessToken), 'user_1', alg)
    t.match(await get(idToken), '401 The token is meant for another audience', `${alg}: the ID token is for the client`)
    const at = accessToken.lastIndexOf('.') + 20
    await afterCooldown(clock)
    const forged = `${accessToken.slice(0, at)}${accessToken[at] === 'A' ? 'B' : 'A'}${accessToken.slice(at + 1)}`
    t.equal(await get(forged), '401 The signature of the token is not valid', alg)
  }
  t.match(app.sessionIdentity.stats(), { verified: 3, keys: 3, keyFetchFailures: 0 })
  t.match(await get((await provider.signInWithoutResource()).access_token), /^401 /, 'an access token without a resource is opaque')
  const { id_token: symmetric } = await provider.signInWithSharedSecret()
  t.match(decodeProtectedHeader(symmetric), { alg: 'HS256' })
  t.equal(await get(symmetric), '401 The algorithm of the token is not allowed')
  const other = await oidcProviderIssuer(t)
  t.equal(await get((await other.signIn('RS256')).access_token), '401 The issuer of the token is not accepted')
})

t.test('Without an audience the access tokens of a real oidc-provider are refused, as a token for another API would pass too.', async t => {
  const provider = await oidcProviderIssuer(t)
  const { get } = await appWith(t, { issuer: provider.url })
  t.equal(await get((await provider.signIn('RS256')).access_token), '401 The token is of another type')
})

t.test('A real oidc-provider that restarts with other keys loses no user: the first token fetches them, later ones wait for them.', async t => {
  const provider = await oidcProviderIssuer(t)
  const { clock, get, app } = await appWith(t, { issuer: provider.url, audience: api })
  const { access_token: old } = await provider.signIn('ES256')
  t.equal(await get(old), 'user_1')
  await afterCooldown(clock)
  provider.rotate()
  t.equal(await get((await provider.signIn('ES256')).access_token), 'user_1')
  t.equal(app.sessionIdentity.stats().keyFetches, 2)

  provider.rotate()
  const { access_token: renewed } = await provider.signIn('EdDSA')
  clock.advance(3500)
  const waiting = get(renewed)
  await clock.settle(20)
  clock.advance(1500)
  t.equal(await waiting, 'user_1')
  await afterCooldown(clock)
  t.equal(await get(old), '401 The key of the token is not known')
})

for (const alg of ['EdDSA', 'ES256', 'RS256'] as const) {
  t.test(`Tokens of a real better-auth that signs with ${alg} are accepted by the options of its two plugins, each by its own.`, async t => {
    const provider = await betterAuthIssuer(t, alg)
    const { url, userId } = provider
    const byJwt = await appWith(t, { issuer: url, jwksUrl: `${url}/api/auth/jwks`, audience: url })
    const byOauth = await appWith(t, { issuer: `${url}/api/auth`, audience: betterAuthApi })
    const jwt = await provider.token()
    const { access_token: accessToken, id_token: idToken } = await provider.signIn()
    t.match(decodeProtectedHeader(jwt), { alg })
    t.match(decodeProtectedHeader(accessToken), { alg, typ: 'at+jwt' })
    t.match(decodeJwt(accessToken), { sub: userId, iss: `${url}/api/auth` })
    t.equal(await byJwt.get(jwt), userId)
    t.equal(await byOauth.get(accessToken), userId)
    t.equal(await byOauth.get(jwt), '401 The issuer of the token is not accepted')
    t.equal(await byJwt.get(accessToken), '401 The issuer of the token is not accepted')
    t.equal(await byOauth.get(idToken), '401 The token is meant for another audience')
    t.match(await byJwt.get(provider.sessionToken), /^401 /, 'the token of the session is opaque')
    const other = await betterAuthIssuer(t, alg)
    t.equal(await byJwt.get(await other.token()), '401 The issuer of the token is not accepted')

    provider.rotate()
    for (const { clock } of [byJwt, byOauth]) await afterCooldown(clock)
    t.equal(await byJwt.get(await provider.token()), userId, 'of a new key')
    t.equal(await byOauth.get((await provider.signIn()).access_token), userId, 'of a new key')
    for (const { clock } of [byJwt, byOauth]) await afterCooldown(clock)
    t.equal(await byJwt.get(jwt), '401 The key of the token is not known', 'of the old one')
    t.equal(await byOauth.get(accessToken), '401 The key of the token is not known', 'of the old one')
  })
}

t.test('A real better-auth publishes its keys at a path of its own: its issuer alone finds none, and says so.', async t => {
  const { url, token } = await betterAuthIssuer(t, 'EdDSA')
  const { app, get } = await appWith(t, { issuer: url, audience: url })
  t.match(await get(await token()), /^503 /)
  const message = `${url}/.well-known/jwks.json: it answered with status 404`
  t.match(await app.sessionIdentity.identify(await token()), { kind: 'unavailable', cause: { message } })
})
