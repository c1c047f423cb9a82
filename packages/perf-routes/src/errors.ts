import createError from '@fastify/error'
import type { CodedError } from '@orientor/session-contract/core'

/** Coded errors of perf-routes. Match by `code`. */
export interface PerfRoutesErrors {
  /** Registered without saying who may use the routes. */
  readonly NoGuard: CodedError<'ORI_PERF_NO_GUARD'>
  /** A key that adminKey() does not take. */
  readonly InvalidAdminKey: CodedError<'ORI_PERF_INVALID_ADMIN_KEY', [string]>
  /** The admin key is missing or wrong. */
  readonly Unauthorized: CodedError<'ORI_PERF_UNAUTHORIZED'>
  /** `authorize` did not answer true. */
  readonly Forbidden: CodedError<'ORI_PERF_FORBIDDEN'>
  /** `authorize` threw or rejected; the cause is attached and logged, never sent. */
  readonly AuthorizeFailed: CodedError<'ORI_PERF_AUTHORIZE_FAILED', [{ readonly cause: unknown }]>
  /** A request body that breaks its rule. */
  readonly InvalidRequest: CodedError<'ORI_PERF_INVALID_REQUEST', [string]>
  /** No plugin in scope has a cache that can be told to forget. */
  readonly NothingToInvalidate: CodedError<'ORI_PERF_NOTHING_TO_INVALIDATE'>
  /** A cache could not be told to forget, or did not answer in time; the cause is attached and logged, never sent. */
  readonly InvalidationFailed: CodedError<'ORI_PERF_INVALIDATION_FAILED', [{ readonly cause: unknown }]>
}

/** The errors of this package, by name. */
export const errors: PerfRoutesErrors = {
  NoGuard: createError('ORI_PERF_NO_GUARD',
    '@orientor/perf-routes: option "authorize" is missing. The rule: these routes show how the service works and empty its caches, so it must be said who may use them. Write { authorize: adminKey(process.env.ADMIN_KEY) }, or { authorize: request => … } with a rule of your own, or { authorize: false } when something in front of the server guards them.', 500, TypeError),
  InvalidAdminKey: createError('ORI_PERF_INVALID_ADMIN_KEY',
    'adminKey(): every key must be a string of at least 32 visible ASCII characters; received %s. Make one with: node -p "crypto.randomBytes(32).toString(\'base64url\')"', 500, TypeError),
  Unauthorized: createError('ORI_PERF_UNAUTHORIZED', 'This route needs a valid admin key in the header x-admin-key', 401),
  Forbidden: createError('ORI_PERF_FORBIDDEN', 'This request may not use this route', 403),
  AuthorizeFailed: createError('ORI_PERF_AUTHORIZE_FAILED', 'It could not be decided whether this request may use this route', 500),
  InvalidRequest: createError('ORI_PERF_INVALID_REQUEST', '%s', 400),
  NothingToInvalidate: createError('ORI_PERF_NOTHING_TO_INVALIDATE',
    'No plugin in scope has a cache to invalidate. Register @orientor/session-cache in the scope of these routes', 409),
  InvalidationFailed: createError('ORI_PERF_INVALIDATION_FAILED', 'Not every cache could be told; send the request again', 503)
}

/** Codes of the errors above. */
export type PerfRoutesErrorCode = InstanceType<PerfRoutesErrors[keyof PerfRoutesErrors]>['code']
