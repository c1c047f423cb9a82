import { sessionHub } from '@orientor/session-contract'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { readToken } from './bearer-token.js'
import type { ClaimRules } from './claims.js'
import { errors } from './errors.js'
import { identityComponent, type SessionIdentityStats } from './identity-component.js'
import { JwksSource } from './jwks-source.js'
import { owner, resolveOptions, type ResolvedSessionIdentityOptions, type SessionIdentityOptions } from './options.js'
import { checkByApp, checkByJwks, type AppVerifier } from './signature-check.js'
import { TokenVerifier } from './token-verifier.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Who verifies tokens in this scope. */
    sessionIdentity: SessionIdentity
  }
}

/** What `fastify.sessionIdentity` offers. */
export interface SessionIdentity {
  /** Verifies a token that came by another way than a request's header or cookie, such as the first message of a WebSocket. */
  identify: TokenVerifier['identify']
  /** Counts since the start, by the rules of TokenVerifierStats. */
  stats (): SessionIdentityStats
}

const plugin: FastifyPluginAsync<SessionIdentityOptions> = async (fastify, input) => {
  const options = resolveOptions(input)
  const { clock, cookie } = options
  const hub = sessionHub(fastify)
  const source = options.jwksUrl === null ? null : new JwksSource({ url: options.jwksUrl, fetch: options.fetch, clock })
  const verifier = new TokenVerifier({
    ...options,
    signature: source === null ? checkByApp(() => appVerifier(fastify)) : checkByJwks(source),
    rules: rulesOf(options)
  })
  const component = identityComponent(verifier, source, clock)

  hub.fill('identify', owner, ({ raw }) => {
    const token = readToken(raw.headers, raw.rawHeaders, cookie)
    return typeof token === 'string' ? verifier.identify(token) : token
  })
  hub.observe(component)
  fastify.decorate('sessionIdentity', Object.freeze<SessionIdentity>({ identify: token => verifier.identify(token), stats: component.stats }))

  if (source === null) fastify.addHook('onReady', async () => { await proveFixedSecret(appVerifier(fastify)) })
  else fastify.addHook('onClose', async () => { source.close() })
}

function rulesOf ({ issuer, audience, authorizedParties, algorithms, verify, clockToleranceMs, maxTokenLifetimeMs }: ResolvedSessionIdentityOptions): ClaimRules {
  return { issuer, audience, authorizedParties, algorithms, expiryRequired: verify === 'jwks', clockToleranceMs, maxTokenLifetimeMs }
}

/** Looked up late: `@fastify/jwt` may be registered after this plugin. With a namespace it has no `verify` of its own. */
function appVerifier (fastify: FastifyInstance): AppVerifier {
  const { jwt } = fastify as { jwt?: Partial<AppVerifier> }
  if (typeof jwt?.verify !== 'function') throw new errors.NoVerifier()
  return jwt as AppVerifier
}

/** With a fixed secret the verifier throws what it thinks of a malformed token; with a function for a secret it answers with a promise. */
async function proveFixedSecret (verifier: AppVerifier): Promise<void> {
  let answer: unknown
  try {
    answer = verifier.verify('malformed')
  } catch {
    return
  }
  await Promise.resolve(answer).catch(() => {})
  throw new errors.DynamicSecret()
}

/**
 * Bearer token or session cookie → verified identity, in `request.identity`. Fills the slot `identify` and decorates
 * `fastify.sessionIdentity`.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION at registration; ORI_IDENTITY_NO_VERIFIER or ORI_IDENTITY_DYNAMIC_SECRET at ready
 */
export const sessionIdentity: FastifyPluginAsync<SessionIdentityOptions> = fp(plugin, { name: '@orientor/session-identity', fastify: '5.x' })
export default sessionIdentity
