import { startDeadline, type Clock } from '@orientor/session-contract/core'

/** The part of the platform's `fetch` that is used; injected so that tests own the network. */
export type Fetch = (url: string, init: { readonly signal: AbortSignal, readonly redirect: 'error', readonly headers: Readonly<Record<string, string>> }) => Promise<Response>

/** How a document is fetched. */
export interface FetchLimits {
  readonly fetch: Fetch
  readonly clock: Clock
  /** From the sending of the request to the last byte of the answer, in milliseconds. */
  readonly timeoutMs: number
  /** Size of the answer after decompression, in bytes. */
  readonly maxBytes: number
}

/**
 * Fetches a JSON document within a time and a size; redirects are not followed.
 *
 * @throws whatever went wrong: the network, the status, the size, the syntax, or the time, also when `fetch` ignores its signal
 */
export async function fetchJson (url: string, { fetch, clock, timeoutMs, maxBytes }: FetchLimits): Promise<unknown> {
  const deadline = startDeadline(clock, timeoutMs)
  const expired = new Promise<never>((_resolve, reject) => {
    deadline.signal.addEventListener('abort', () => { reject(new Error(`it did not answer within ${timeoutMs} ms`)) }, { once: true })
  })
  try {
    return await Promise.race([read(), expired])
  } finally {
    deadline.release()
  }

  async function read (): Promise<unknown> {
    const response = await fetch(url, { signal: deadline.signal, redirect: 'error', headers: { accept: 'application/json' } })
    if (!response.ok) {
      await response.body?.cancel()
      throw new Error(`it answered with status ${response.status}`)
    }
    const chunks: Uint8Array[] = []
    let size = 0
    for await (const chunk of response.body ?? []) {
      size += chunk.byteLength
      if (size > maxBytes) throw new Error(`its answer is larger than ${maxBytes} bytes`)
      chunks.push(chunk)
    }
    try {
      return JSON.parse(Buffer.concat(chunks).toString('utf8'))
    } catch (cause) {
      throw new Error('its answer is not JSON', { cause })
    }
  }
}
