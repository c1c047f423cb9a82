import type { FastifyInstance } from 'fastify'
import { errors } from '../errors.js'
import { readHubOptions, type SessionHubOptions } from '../hub-options.js'
import type { Identity } from '../identity.js'
import type { RouteSession } from '../route-session.js'
import type { SessionOutcome } from '../session-outcome.js'
import type { SessionUser } from '../user.js'
import { compiledRoute, type CompiledConfig } from './compiled-route.js'
import { Hub, hasOwnHub, hubOf, protocol, type SessionHub } from './hub.js'
import { OutOfScopeRoutes, outOfScopeError } from './out-of-scope.js'
import { resolveSessions } from './resolve-session.js'
import { serverOf } from './server-of.js'
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
// Symbol.for: two copies of this package install one guard.
const guardedKey = Symbol.for('@orientor/session-contract/guarded')

/**
 * The hub of this scope. The first call in a line of scopes declares the request decorators and adds the one onRequest hook; later calls, in
 * whatever order and from whatever copy of this package, find the hub. Every session plugin calls it. Outside of every hub a route
 * that demands a session is refused.
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
  const isFirst = inherited === undefined
  if (isFirst) {
    for (const name of decorators) {
      if (fastify.hasRequestDecorator(name)) throw new errors.ForeignDecorator(name)
    }
    for (const name of decorators) fastify.decorateRequest(name, null)
  }
  const hub = new Hub(fastify, inherited ?? null)
  if (isFirst) {
    resolveSessions(fastify)
    fastify.addHook('onRoute', route => { compiledRoute((route.config ??= {}) as CompiledConfig) })
    guardRoutesOutside(serverOf(fastify))
  }
  fastify.addHook('onReady', async function () {
    if (hub.ownSource !== undefined) await startSource(hub.ownSource, this)
    this.log.info(await hub.describe())
  })
  return hub
}

function guardRoutesOutside (server: FastifyInstance & { [guardedKey]?: true }): void {
  // Every route of a server with a hub of its own is in its scope.
  if (hubOf(server) !== undefined || server[guardedKey] === true) return
  Object.defineProperty(server, guardedKey, { value: true })
  const outside = new OutOfScopeRoutes()
  server.addHook('onRequest', function (request, _reply, done) {
    done(hubOf(this) === undefined ? outOfScopeError(request) : undefined)
  })
  server.addHook('onRoute', function (route) { outside.add(this, route) })
  server.addHook('onReady', async () => { outside.throwIfAny() })
}
