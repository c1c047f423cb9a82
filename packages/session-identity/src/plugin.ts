import { sessionHub } from '@orientor/session-contract'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { AppIdentifier } from './app-identifier.js'
import { readToken } from './bearer-token.js'
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

/** What `fastify.sessionIdentity` offers. */
export interface SessionIdentity {
  /**
   * Verifies a token that came by another way than a request's header or cookie, such as the first message of a WebSocket.
   *
   * @throws ORI_IDENTITY_NOT_BY_TOKEN where the option `identify` is in use
   */
  identify: TokenVerifier['identify']
  /** Counts since the start, by the rules of TokenVerifierStats. */
  stats (): SessionIdentityStats
}

const plugin: FastifyPluginAsync<SessionIdentityOptions> = async (fastify, input) => {
  const options = resolveOptions(input)
  if (options.identify === null) byToken(fastify, options)
  else byApp(fastify, new AppIdentifier(options.identify), options)
}

function byToken (fastify: FastifyInstance, options: ResolvedSessionIdentityOptions): void {
  const { cookie } = options
  const hub = sessionHub(fastify)
  const { policies, sources } = trustedIssuers(options, () => appVerifier(fastify))
  const verifier = new TokenVerifier({ ...options, policies })
  const component = identityComponent(verifier, sources, options.clock)

  hub.fill('identify', owner, ({ raw }) => {
    const token = readToken(raw.headers, raw.rawHeaders, cookie)
    return typeof token === 'string' ? verifier.identify(token) : token
  })
  hub.observe(component)
  fastify.decorate('sessionIdentity', Object.freeze<SessionIdentity>({ identify: token => verifier.identify(token), stats: component.stats }))

  if (options.verify === 'fastify-jwt') fastify.addHook('onReady', async () => { await proveFixedSecret(appVerifier(fastify)) })
  fastify.addHook('onClose', async () => { for (const source of sources) source.close() })
}

function byApp (fastify: FastifyInstance, identifier: AppIdentifier, { clock }: ResolvedSessionIdentityOptions): void {
  const hub = sessionHub(fastify)
  const component = identityComponent(identifier, [], clock)
  hub.fill('identify', owner, request => identifier.identify(request))
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
