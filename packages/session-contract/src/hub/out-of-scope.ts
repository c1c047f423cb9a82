import type { FastifyRequest, RouteOptions } from 'fastify'
import { errors } from '../errors.js'
import { hubOf } from './hub.js'

/**
 * The routes with `required: true` outside of every hub. No hook of a session plugin guards them, so the server does not start. They
 * are judged at ready, since a hub above them may still be registered. Routes that were declared before the first hub are not seen
 * here: each request to them is answered with the error.
 */
export class OutOfScopeRoutes {
  readonly #found: Array<{ readonly scope: object, readonly name: string }> = []

  /** Takes note of a route if it demands a session. */
  add (scope: object, { method, url, config }: RouteOptions): void {
    if (demandsSession(config)) this.#found.push({ scope, name: nameOf(method, url) })
  }

  /** @throws ORI_CONTRACT_ROUTE_OUT_OF_SCOPE, naming the routes that are outside of every hub */
  throwIfAny (): void {
    const outside = this.#found.filter(({ scope }) => hubOf(scope) === undefined).map(({ name }) => name)
    if (outside.length > 0) throw new errors.RouteOutOfScope(outside.join('; '))
  }
}

/** The error for a request on a route outside of every hub that demands a session; undefined for any other route. */
export function outOfScopeError ({ routeOptions: { method, url = '', config } }: FastifyRequest): Error | undefined {
  return demandsSession(config) ? new errors.RouteOutOfScope(nameOf(method, url)) : undefined
}

/** Only what must be meant for these plugins: out of their scope `config.session` may belong to another one. */
function demandsSession (config: unknown): boolean {
  const { session } = Object(config) as { session?: unknown }
  return typeof session === 'object' && session !== null && 'required' in session && session.required === true
}

function nameOf (method: string | readonly string[], url: string): string {
  return `${[method].flat().join(',')} ${url}`
}
