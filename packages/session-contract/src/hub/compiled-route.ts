import { compileRouteSession, defaultRouteSession, type RouteSession } from '../route-session.js'

// Symbol.for: two copies of this package read the same route.
const compiledKey: unique symbol = Symbol.for('@orientor/session-contract/route')

/** The `config` of a route, with what its `session` was compiled to. */
export interface CompiledConfig { session?: unknown, [compiledKey]?: RouteSession | null }

/**
 * What a route demands, compiled once per route; null for `session: false`.
 *
 * @throws ORI_CONTRACT_INVALID_ROUTE_SESSION
 */
export function compiledRoute (config: CompiledConfig | undefined): RouteSession | null {
  if (config === undefined) return defaultRouteSession
  const known = config[compiledKey]
  if (known !== undefined) return known
  const route = compileRouteSession(config.session)
  if (Object.isExtensible(config)) Object.defineProperty(config, compiledKey, { value: route })
  return route
}
