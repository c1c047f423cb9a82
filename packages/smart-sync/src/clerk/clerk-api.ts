import type { Clock, Deadline } from '@orientor/session-contract/core'
import { errors } from '../errors.js'

/** What the calls need. */
export interface ClerkApiOptions {
  readonly secretKey: string
  /** Base of the Backend API, with or without `/v1`. */
  readonly apiUrl: string
  readonly fetch: typeof fetch
  readonly clock: Clock
}

/** What came of a call. */
export type ClerkApiResult =
  | { readonly kind: 'answered', readonly body: unknown }
  | { readonly kind: 'failed', readonly error: Error, readonly retryAfterMs?: number }

/** The version of the API whose shapes are read here. */
const apiVersion = '2026-05-12'
/** Longest answer that is read. A hundred users are about half a megabyte. */
const maxAnswerBytes = 8 * 1024 * 1024
const defaultRetryAfterMs = 1000
const longestRetryAfterMs = 60_000

/** The Backend API of Clerk, as far as a sync needs it. */
export class ClerkApi {
  readonly #options: ClerkApiOptions
  #pausedUntilMs = -Infinity

  constructor (options: ClerkApiOptions) {
    this.#options = options
  }

  /**
   * `GET /v1/users` for up to 100 ids. Ids that Clerk does not know are missing from the list that it answers.
   * After a 429 nothing is sent until its `Retry-After` has passed (at most a minute): Clerk would refuse it anyway.
   *
   * @param ids - each begins with `user_`: in front of an id, `-` would mean everybody else
   */
  async listUsers (ids: readonly string[], deadline: Deadline): Promise<ClerkApiResult> {
    const { clock } = this.#options
    const pauseMs = this.#pausedUntilMs - clock.monotonic()
    if (pauseMs > 0) return failed('it asked for a pause', Math.ceil(pauseMs))
    const query = new URLSearchParams({ limit: '100' })
    for (const id of ids) query.append('user_id', id)
    try {
      return await this.#get(`/users?${query.toString()}`, deadline)
    } catch (cause) {
      return { ...failed('it could not be reached, or broke off', defaultRetryAfterMs, cause) }
    }
  }

  async #get (path: string, { signal }: Deadline): Promise<ClerkApiResult> {
    const { fetch, apiUrl, secretKey, clock } = this.#options
    const response = await fetch(`${apiUrl.replace(/(?:\/v1)?\/*$/, '')}/v1${path}`, {
      headers: { authorization: `Bearer ${secretKey}`, accept: 'application/json', 'clerk-api-version': apiVersion },
      redirect: 'error',
      signal
    })
    if (response.ok) return await read(response)
    await response.body?.cancel()
    const retryAfterMs = retryAfterOf(response)
    if (response.status === 429) this.#pausedUntilMs = clock.monotonic() + retryAfterMs
    if (response.status < 500 && response.status !== 429 && response.status !== 408) return { kind: 'failed', error: new errors.ProviderRefused(String(response.status)) }
    return failed(`it answered with status ${response.status}`, retryAfterMs)
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

/** Whole seconds, as Clerk sends them. */
function retryAfterOf (response: Response): number {
  const text = response.headers.get('retry-after') ?? ''
  if (!/^\d{1,6}$/.test(text)) return defaultRetryAfterMs
  return Math.min(longestRetryAfterMs, Math.max(defaultRetryAfterMs, Number(text) * 1000))
}

function failed (why: string, retryAfterMs: number, cause?: unknown): ClerkApiResult {
  const error = new errors.ProviderUnavailable(why)
  return { kind: 'failed', error: cause === undefined ? error : Object.assign(error, { cause }), retryAfterMs }
}
