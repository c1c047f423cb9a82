import { clockObject, issuerFlaw, optional, readOptions, rule, systemClock, withDefault, type Clock } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import type { Authorize } from './guard.js'

/** Options of the plugin. `Request` is the request of the framework. */
export interface PerfRoutesOptions<Request> {
  /**
   * Who may use the routes: adminKey(), or a function that answers true, or a promise of it, for those who may. `false` leaves the
   * routes open; only for a server that something else guards. There is no default.
   */
  readonly authorize: Authorize<Request> | false
  /** Path of the routes: begins with a slash and does not end with one. Default is `/database`. */
  readonly prefix?: string
  /** Issuer of users that are named by their subject only. Default: the issuer must be sent. */
  readonly issuer?: string
  /** Time. Default is the clock of this process. */
  readonly clock?: Clock
}

/** The options with every value set. */
export interface ResolvedPerfRoutesOptions<Request> {
  readonly authorize: Authorize<Request> | false
  readonly prefix: string
  readonly issuer: string | null
  readonly clock: Clock
}

interface Given<Request> {
  readonly authorize: Authorize<Request> | false | undefined
  readonly prefix: string
  readonly issuer: string | undefined
  readonly clock: Clock
}

/** The package, as messages name it. */
export const owner = '@orientor/perf-routes'

/**
 * Reads the options: pure and complete.
 *
 * @throws ORI_PERF_NO_GUARD without `authorize`; ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveOptions<Request> (input: unknown): ResolvedPerfRoutesOptions<Request> {
  const { authorize, issuer, prefix, clock } = readOptions<Given<Request>>(owner, input, {
    authorize: optional(rule('adminKey(), a function (request) => boolean | Promise<boolean>, or false',
      value => value === false || typeof value === 'function' ? value as Authorize<Request> | false : undefined)),
    prefix: withDefault(rule('a path that begins with "/" and does not end with it', value => typeof value === 'string' && /^(?:\/[\w.~-]+)+$/.test(value) ? value : undefined), '/database'),
    issuer: optional(rule('a non-empty string without white space', value => issuerFlaw(value) === null ? value as string : undefined)),
    clock: withDefault(clockObject, systemClock)
  })
  if (authorize === undefined) throw new errors.NoGuard()
  return Object.freeze({ authorize, issuer: issuer ?? null, prefix, clock })
}
