import createError from '@fastify/error'
import type { CodedError } from '@orientor/session-contract/core'

/** Coded errors of this package. Match by `code`. */
export interface PoolErrors {
  /** No connection was to be had before the deadline; nothing was sent. */
  readonly CheckoutTimeout: CodedError<'ORI_POOL_CHECKOUT_TIMEOUT', [string]>
  /** The pool is closed, or was closed while the caller waited; nothing was sent. */
  readonly Closed: CodedError<'ORI_POOL_CLOSED'>
  /** A connection was not ready in time; nothing was sent. */
  readonly ConnectTimeout: CodedError<'ORI_POOL_CONNECT_TIMEOUT', [number]>
  /** A connection string that cannot be used: it does not parse, or names what is not there. */
  readonly InvalidConnectionString: CodedError<'ORI_POOL_INVALID_CONNECTION_STRING', [string]>
  /** The pool could open more connections than the server has. */
  readonly LargerThanServer: CodedError<'ORI_POOL_LARGER_THAN_SERVER', [string]>
  /** The function that answers with the password failed, or answered with something else. */
  readonly PasswordFailed: CodedError<'ORI_POOL_PASSWORD_FAILED', [string, { readonly cause?: unknown }]>
  /** A transaction that had failed inside was committed: the server rolled it back instead. */
  readonly RolledBack: CodedError<'ORI_POOL_ROLLED_BACK'>
  /** `failFast` is set and the server cannot be reached. */
  readonly Unreachable: CodedError<'ORI_POOL_UNREACHABLE', [string, { readonly cause: unknown }]>
}

/** The errors of this package, by name. */
export const errors: PoolErrors = {
  CheckoutTimeout: createError('ORI_POOL_CHECKOUT_TIMEOUT', '%s', 503),
  Closed: createError('ORI_POOL_CLOSED', 'The pool is closed. The rule: no connection can be had after close() began to end the pool. Finish the work before, or use another pool.', 503),
  ConnectTimeout: createError('ORI_POOL_CONNECT_TIMEOUT',
    'No connection within %d ms. The rule: the server, a function given as "client.password" and "onConnect" have answered within "connectTimeoutMs".', 503),
  InvalidConnectionString: createError('ORI_POOL_INVALID_CONNECTION_STRING', 'The connection string %s Its value is not shown, because it may hold a password.', 500, TypeError),
  LargerThanServer: createError('ORI_POOL_LARGER_THAN_SERVER', '%s', 500),
  PasswordFailed: createError('ORI_POOL_PASSWORD_FAILED', 'The function given as "client.password" %s. The rule: it answers with a string, for every connection anew.', 503),
  RolledBack: createError('ORI_POOL_ROLLED_BACK',
    'The transaction was rolled back at COMMIT. The rule: a statement that failed inside ends the transaction, even when its error was caught. Let the error pass, or use a SAVEPOINT.', 500),
  Unreachable: createError('ORI_POOL_UNREACHABLE', '%s', 503)
}

/** Codes of the errors above. */
export type PoolErrorCode = InstanceType<PoolErrors[keyof PoolErrors]>['code']
