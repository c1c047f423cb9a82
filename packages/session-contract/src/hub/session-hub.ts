import type { FastifyInstance } from 'fastify'
import { errors } from '../errors.js'
import type { Identity } from '../identity.js'
import type { RouteSession } from '../route-session.js'
import type { SessionOutcome } from '../session-outcome.js'
import type { SessionUser } from '../user.js'
import { compiledRoute, type CompiledConfig } from './compiled-route.js'
import { Hub, hasOwnHub, hubOf, protocol, type SessionHub } from './hub.js'
import { readHubOptions, type SessionHubOptions } from '../hub-options.js'
import { OutOfScopeRoutes, serverOf } from './out-of-scope.js'
import { resolveSession } from './resolve-session.js'
import { startSource } from './start-source.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The verified identity of a request whose outcome is `user` or `identified`; null otherwise. */
    identity: Identity | null
    /** The active user; null when there is none. */
    sessionUser: SessionUser | null
    /** How the request was resolved; null before the hook ran and on routes with `session: false`. */
    sessionOutcome: SessionOutcome | null
  }
  interface FastifyContextConfig {
    /** What the route demands of the session; see RouteSession. */
    session?: false | Partial<RouteSession>
  }
}

const decorators = ['identity', 'sessionUser', 'sessionOutcome'] as const
// Symbol.for: two copies of this package install one hook.
const hookedKey = Symbol.for('@orientor/session-contract/hooked')

/**
 * The hub of this scope. The first call in a line of scopes declares the request decorators; the first in a server installs the one onRequest hook, which
 * does nothing outside of every hub but refuse a route that demands a session. Later calls, in whatever order and from whatever copy of this package,
 * find the hub. Every session plugin calls it.
 *
 * @throws ORI_CONTRACT_FOREIGN_DECORATOR when something else decorated the request, ORI_CONTRACT_INCOMPATIBLE_COPIES when
 *   another major version of this package made the hub, ORI_CONTRACT_INVALID_OPTION for an option that breaks its rule or contradicts an earlier call
 */
export function sessionHub (fastify: FastifyInstance, options: SessionHubOptions = {}): SessionHub {
  const given = readHubOptions(options)
  const hub = hubIn(fastify)
  hub.configure(given)
  return hub
}

function hubIn (fastify: FastifyInstance): Hub {
  const inherited = hubOf(fastify)
  if (inherited !== undefined && inherited.protocol !== protocol) throw new errors.IncompatibleCopies(String(inherited.protocol), String(protocol))
  if (inherited !== undefined && hasOwnHub(fastify)) return inherited
  if (inherited === undefined) {
    for (const name of decorators) {
      if (fastify.hasRequestDecorator(name)) throw new errors.ForeignDecorator(name)
    }
    for (const name of decorators) fastify.decorateRequest(name, null)
    installHook(serverOf(fastify))
  }
  const hub = new Hub(fastify, inherited ?? null)
  fastify.addHook('onReady', async function () {
    if (hub.ownSource !== undefined) await startSource(hub.ownSource, this)
    this.log.info(await hub.describe())
  })
  return hub
}

function installHook (server: FastifyInstance & { [hookedKey]?: true }): void {
  if (server[hookedKey] === true) return
  Object.defineProperty(server, hookedKey, { value: true })
  const outside = new OutOfScopeRoutes()
  server.addHook('onRequest', resolveSession)
  server.addHook('onRoute', function (route) {
    if (hubOf(this) === undefined) outside.declared(this, route)
    else compiledRoute((route.config ??= {}) as CompiledConfig)
  })
  server.addHook('onReady', async () => { outside.refuse() })
}
