import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify'
import { errors } from '../errors.js'
import { hubOf } from './hub.js'

/**
 * The routes of a server that demand a session outside of every hub, and would serve anybody: config.session.required means nothing there.
 * Those that are declared once a hub is there are told apart when the server becomes ready, as a hub above them may still come; it then does
 * not start. The others are refused at each request.
 */
export class OutOfScopeRoutes {
  readonly #seen: Array<{ readonly scope: object, readonly name: string }> = []

  /** To be called for each route of the server that is declared. */
  declared (scope: object, { method, url, config }: RouteOptions): void {
    if (demandsSession(config)) this.#seen.push({ scope, name: `${[method].flat().join(',')} ${url}` })
  }

  /** @throws ORI_CONTRACT_ROUTE_OUT_OF_SCOPE, naming the routes, when the server becomes ready */
  refuse (): void {
    const outside = this.#seen.filter(({ scope }) => hubOf(scope) === undefined).map(({ name }) => name)
    if (outside.length > 0) throw new errors.RouteOutOfScope(outside.join('; '))
  }
}

/** The error for a request on a route outside of every hub that demands a session; null for any other route. */
export function outOfScopeError ({ routeOptions: { method, url, config } }: FastifyRequest): Error | null {
  return demandsSession(config) ? new errors.RouteOutOfScope(`${[method].flat().join(',')} ${url ?? ''}`) : null
}

/** Only what can be meant for these plugins: out of their scope `config.session` may be anybody's. */
function demandsSession (config: unknown): boolean {
  const { session } = Object(config) as { session?: unknown }
  return typeof session === 'object' && session !== null && 'required' in session && session.required === true
}

/** The server that this scope is part of: Fastify makes each scope an object that inherits from the one around it. */
export function serverOf (scope: FastifyInstance): FastifyInstance {
  let outermost: object = scope
  for (let parent: object | null = scope; parent !== null && 'addHook' in parent; parent = Object.getPrototypeOf(parent) as object | null) outermost = parent
  return outermost as FastifyInstance
}
