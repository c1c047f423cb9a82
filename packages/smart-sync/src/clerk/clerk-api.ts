import type { Clock, Deadline } from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import type { LookUpPriority } from '../identity-provider.js'
import { defaultQuota } from './default-quota.js'
import { RequestQuota, type RequestPermit } from './request-quota.js'
import { retryAfterMsOf } from './retry-after.js'
import { withoutSecret } from './without-secret.js'

/** Options of ClerkApi. */
export interface ClerkApiOptions {
  readonly secretKey: string
  /** Base of the Backend API, with or without `/v1`. */
  readonly apiUrl: string
  /** The most requests in any window of time. Default is four fifths of what Clerk takes for this kind of key. */
  readonly quota?: ClerkQuota | undefined
  readonly fetch: typeof fetch
  readonly clock: Clock
}

/** The most requests to Clerk's Backend API in any window of time. */
export interface ClerkQuota {
  /** Requests per window, from 1 to 100000. Default is 800, and 80 for a development key (`sk_test_…`). */
  readonly maxRequests?: number | undefined
  /** Length of the window, in milliseconds. Default is 10000. */
  readonly windowMs?: number | undefined
}

/** The result of a call. */
export type ClerkApiResult =
  | { readonly kind: 'answered', readonly body: unknown }
  | { readonly kind: 'failed', readonly error: Error, readonly retryAfterMs?: number }

/** The version of the API whose shapes are read here. */
const apiVersion = '2026-05-12'
/** Longest answer that is read, unpacked. A hundred users are about half a megabyte. */
const maxAnswerBytes = 8 * 1024 * 1024
const defaultRetryAfterMs = 1000

/** The Backend API of Clerk, as far as a sync needs it. */
export class ClerkApi {
  readonly #options: ClerkApiOptions
  readonly #quota: RequestQuota

  constructor (options: ClerkApiOptions) {
    const { maxRequests, windowMs } = defaultQuota(options.secretKey)
    this.#options = options
    this.#quota = new RequestQuota({
      maxRequests: options.quota?.maxRequests ?? maxRequests,
      windowMs: options.quota?.windowMs ?? windowMs,
      clock: options.clock
    })
  }

  /**
   * `GET /v1/users` for up to 100 ids. Ids that Clerk does not know are missing from the list that it answers.
   * Within the quota, and after a 429 never before its `Retry-After` (at most an hour): Clerk would refuse it anyway.
   *
   * @param ids - each begins with `user_`: in front of an id, `-` would mean everybody else
   */
  async listUsers (
    ids: readonly string[], deadline: Deadline, priority: LookUpPriority = 'interactive'
  ): Promise<ClerkApiResult> {
    const answer = await this.#quota.acquire(priority, deadline)
    if (answer.kind === 'refused') {
      const isPaused = answer.reason === 'paused'
      return failed(isPaused ? 'it asked for a pause' : 'the quota of requests is used up', answer.retryAfterMs)
    }
    // Without `limit` the answer would hold ten users.
    const query = new URLSearchParams({ limit: '100' })
    for (const id of ids) query.append('user_id', id)
    try {
      return await this.#get(`/users?${query.toString()}`, deadline, answer.permit)
    } catch (thrown) {
      const cause = withoutSecret(thrown, this.#options.secretKey)
      return failed('it could not be reached, or broke off', defaultRetryAfterMs, cause)
    }
  }

  async #get (path: string, { signal }: Deadline, permit: RequestPermit): Promise<ClerkApiResult> {
    const { fetch, apiUrl, secretKey, clock } = this.#options
    const response = await fetch(`${apiUrl.replace(/(?:\/v1)?\/*$/, '')}/v1${path}`, {
      headers: { authorization: `Bearer ${secretKey}`, accept: 'application/json', 'clerk-api-version': apiVersion },
      // The secret key must not travel anywhere else.
      redirect: 'error',
      signal
    })
    const { status } = response
    const saidMs = retryAfterMsOf(response.headers, clock.now())
    const retryAfterMs = saidMs ?? defaultRetryAfterMs
    if (status === 429 || (status === 503 && saidMs !== null)) permit.throttled(retryAfterMs)
    else if (status < 500) permit.accepted()
    if (response.ok) return await read(response)
    response.body?.cancel().catch(() => {})
    if (status < 500 && status !== 429 && status !== 408) {
      return { kind: 'failed', error: new errors.ProviderRefused(String(status)) }
    }
    return failed(`it answered with status ${status}`, retryAfterMs)
  }
}

async function read (response: Response): Promise<ClerkApiResult> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    // Leaving the loop cancels the body.
    if (bytes > maxAnswerBytes) return failed(`its answer is longer than ${maxAnswerBytes} bytes`, defaultRetryAfterMs)
    chunks.push(chunk)
  }
  try {
    return { kind: 'answered', body: JSON.parse(Buffer.concat(chunks).toString('utf8')) }
  } catch {
    return failed('its answer is not JSON', defaultRetryAfterMs)
  }
}

function failed (why: string, retryAfterMs: number, cause?: Error): ClerkApiResult {
  const error = new errors.ProviderUnavailable(why)
  return { kind: 'failed', error: cause === undefined ? error : Object.assign(error, { cause }), retryAfterMs }
}
