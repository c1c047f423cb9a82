/** The part of the platform's `fetch` that is used; injected so that tests own the network. */
export type Fetch = (url: string, init: { readonly signal: AbortSignal, readonly redirect: 'error', readonly headers: Readonly<Record<string, string>> }) => Promise<Response>

/** How a document is fetched. */
export interface FetchLimits {
  readonly fetch: Fetch
  /** Media types that are asked for, as the header `Accept` lists them. */
  readonly accept: string
  /** Size of the answer after decompression, in bytes. */
  readonly maxBytes: number
  readonly signal: AbortSignal
}

/** An answer with a status other than 2xx. */
export class UnexpectedStatus extends Error {
  readonly status: number

  constructor (status: number) {
    super(`it answered with status ${status}`)
    this.name = 'UnexpectedStatus'
    this.status = status
  }
}

/**
 * Fetches a JSON document within a size; redirects are not followed, and a byte order mark is skipped.
 *
 * @throws UnexpectedStatus, or whatever else went wrong: the network, the size, the syntax
 */
export async function fetchJson (url: string, { fetch, accept, maxBytes, signal }: FetchLimits): Promise<unknown> {
  const response = await fetch(url, { signal, redirect: 'error', headers: { accept } })
  if (!response.ok) {
    await response.body?.cancel()
    throw new UnexpectedStatus(response.status)
  }
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength
    if (size > maxBytes) throw new Error(`its answer is larger than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(new TextDecoder().decode(Buffer.concat(chunks)))
  } catch (cause) {
    throw new Error('its answer is not JSON', { cause })
  }
}
