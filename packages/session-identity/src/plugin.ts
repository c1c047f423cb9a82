import { sessionHub, type SessionHub } from '@orientor/session-contract'
import type { FastifyInstance, FastifyPluginAsync, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Advice } from './advice.js'
import { AppIdentifier } from './app-identifier.js'
import { readCredentials } from './credentials.js'
import { crossSiteOrigin } from './cross-site.js'
import { errors } from './errors.js'
import { identityComponent, type SessionIdentityStats } from './identity-component.js'
import { resolveOptions, type ResolvedSessionIdentityOptions, type SessionIdentityOptions } from './options.js'
import { owner } from './owner.js'
import type { AppVerifier } from './signature-check.js'
import { trustedIssuers } from './token-policy.js'
import { TokenVerifier } from './token-verifier.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Who verifies tokens in this scope. */
    sessionIdentity: SessionIdentity
  }
}

declare module './identify.js' {
  interface IdentifiableRequest extends FastifyRequest {}
}

/** What `fastify.sessionIdentity` offers. */
export interface SessionIdentity {
  /**
   * Verifies a token that came by another way than a request's header or cookie, such as the first message of a WebSocket. What is no string at all
   * is refused as `invalid_request`; nothing that a client can send makes it throw. A token of a key that is not known yet is `unavailable` until the
   * next fetch of the keys: it does not wait, as a request to a route that requires a session does.
   *
   * @throws ORI_IDENTITY_NOT_BY_TOKEN where the option `identify` is in use
   */
  identify (token: string): ReturnType<TokenVerifier['identify']>
  /** Counts since the start, by the rules of TokenVerifierStats. */
  stats (): SessionIdentityStats
}

const plugin: FastifyPluginAsync<SessionIdentityOptions> = async (fastify, input) => {
  const options = resolveOptions(input)
  const hub = sessionHub(fastify, options.hub)
  if (options.identify === null) byToken(fastify, hub, options)
  else byApp(fastify, hub, new AppIdentifier(options.identify), options)
}

function byToken (fastify: FastifyInstance, hub: SessionHub, options: ResolvedSessionIdentityOptions): void {
  const { cookie } = options
  const { policies, sources } = trustedIssuers(options, () => appVerifier(fastify))
  const verifier = new TokenVerifier({ ...options, policies })
  const component = identityComponent(verifier, sources, options.clock)
  const advice = new Advice(options, fastify.log)

  advice.onStart()
  hub.fill('identify', owner, (request, { required }) => {
    const { headers, rawHeaders } = request.raw
    const credentials = readCredentials(headers, rawHeaders, cookie)
    if (typeof credentials === 'string') return verifier.identify(credentials, required)
    if ('kind' in credentials) return credentials
    return advice.onCookie(verifier.identifyCookies(credentials, crossSiteOrigin(request), required))
  })
  hub.observe(component)
  fastify.decorate('sessionIdentity', Object.freeze<SessionIdentity>({ identify: token => verifier.identify(token), stats: component.stats }))

  if (options.verify === 'fastify-jwt') fastify.addHook('onReady', async () => { await proveFixedSecret(appVerifier(fastify)) })
  fastify.addHook('onClose', async () => { for (const source of sources) source.close() })
}

function byApp (fastify: FastifyInstance, hub: SessionHub, identifier: AppIdentifier, { clock }: ResolvedSessionIdentityOptions): void {
  const component = identityComponent(identifier, [], clock)
  hub.fill('identify', owner, (request, route) => identifier.identify(request, route))
  hub.observe(component)
  fastify.decorate('sessionIdentity', Object.freeze<SessionIdentity>({ identify: () => { throw new errors.NotByToken() }, stats: component.stats }))
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
 * Bearer token or session cookie, or the application's own authentication → verified identity, in `request.identity`. Fills the slot `identify` and decorates
 * `fastify.sessionIdentity`.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION at registration; ORI_IDENTITY_NO_VERIFIER or ORI_IDENTITY_DYNAMIC_SECRET at ready
 */
export const sessionIdentity: FastifyPluginAsync<SessionIdentityOptions> = fp(plugin, { name: owner, fastify: '5.x' })
export default sessionIdentity
