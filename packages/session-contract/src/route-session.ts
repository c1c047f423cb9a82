import { errors } from './errors.js'
import { describe } from './option-rules.js'

/**
 * `config.session` of a route: what it demands.
 *
 * | outcome | `required: true` | `required: false` |
 * | --- | --- | --- |
 * | user | user | user |
 * | identified | passes (identity) | passes (identity) |
 * | anonymous | 401 | no user |
 * | refused | 400 / 401 | no user |
 * | forbidden | 403 | no user |
 * | unavailable | 503 + Retry-After | no user |
 * | failed | 500 | no user |
 *
 * Where there is no user, `sessionOutcome` says why. With the hub's option `refuse: 'always'` refused credentials are 400 / 401 on
 * either. `session: false`: the hook does nothing.
 */
export interface RouteSession {
  /** Whether the route needs a user. Default is false. */
  readonly required: boolean
  /**
   * Tightens the cache's own bound, in milliseconds (null, the default: the cache's). It counts from when the user was last known to agree with the
   * database: the sending of the load or, with a bus, the last proof if that is later. Beyond it the user is loaded anew; 0: each time.
   */
  readonly maxStalenessMs: number | null
  /** What happens when that cannot be done: a marked stale user (`stale`, the default), or 503 (`fail`). */
  readonly onUnavailable: 'stale' | 'fail'
}

/** What a route without `config.session` demands: nothing; a user is there when the credentials name one. */
export const defaultRouteSession: RouteSession = Object.freeze({ required: false, maxStalenessMs: null, onUnavailable: 'stale' })

const example = 'Write for example config: { session: { required: true, maxStalenessMs: 1000, onUnavailable: \'fail\' } }, or session: false.'

/**
 * Compiles what a route demands.
 *
 * @returns the complete contract, or null for `session: false`
 * @throws ORI_CONTRACT_INVALID_ROUTE_SESSION on an unknown key or a wrong type
 */
export function compileRouteSession (input: unknown): RouteSession | null {
  if (input === undefined) return defaultRouteSession
  if (input === false) return null
  if (typeof input !== 'object' || input === null || Array.isArray(input)) throw invalid(`must be false or an object; received ${describe(input, false)}`)
  const { required = false, maxStalenessMs = null, onUnavailable = 'stale', ...unknown } = input as Partial<Record<keyof RouteSession, unknown>>
  const [stranger] = Object.keys(unknown)
  if (stranger !== undefined) throw invalid(`has no option "${stranger}"; the options are required, maxStalenessMs and onUnavailable`)
  if (typeof required !== 'boolean') throw invalid(`option "required" must be true or false; received ${describe(required, false)}`)
  if (maxStalenessMs !== null && !isDuration(maxStalenessMs)) throw invalid(`option "maxStalenessMs" must be a whole number of milliseconds of at least 0, or null; received ${describe(maxStalenessMs, false)}`)
  if (onUnavailable !== 'stale' && onUnavailable !== 'fail') throw invalid(`option "onUnavailable" must be "stale" or "fail"; received ${describe(onUnavailable, false)}`)
  return Object.freeze({ required, maxStalenessMs, onUnavailable })
}

function isDuration (value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

function invalid (what: string): Error {
  return new errors.InvalidRouteSession(`config.session of a route ${what}. ${example}`)
}
