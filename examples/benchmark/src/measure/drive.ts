import { Agent, get } from 'node:http'

/** A load: so many requests at once, until there were enough or the time is up. */
export interface Load {
  readonly url: string
  readonly concurrency: number
  /** Headers of the next request. */
  readonly headers: () => Readonly<Record<string, string>>
  /** Stops after so many requests. */
  readonly requests?: number
  /** Stops after so long, in milliseconds. */
  readonly durationMs?: number
}

/** What a load came to. */
export interface Driven {
  /** One per request, in milliseconds, from sending to the last byte. */
  readonly times: readonly number[]
  readonly elapsedMs: number
}

/**
 * Sends a load over kept-alive connections, one per request at once. Runs in this process: the app belongs in another.
 *
 * @throws when an answer is not 200
 */
export async function drive ({ url, concurrency, headers, requests = Infinity, durationMs = Infinity }: Load): Promise<Driven> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency })
  const times: number[] = []
  const begun = performance.now()
  let sent = 0
  const worker = async (): Promise<void> => {
    while (sent < requests && performance.now() - begun < durationMs) {
      sent++
      const from = performance.now()
      await request(url, agent, headers())
      times.push(performance.now() - from)
    }
  }
  try {
    await Promise.all(Array.from({ length: concurrency }, worker))
    return { times, elapsedMs: performance.now() - begun }
  } finally {
    agent.destroy()
  }
}

function request (url: string, agent: Agent, headers: Readonly<Record<string, string>>): Promise<void> {
  return new Promise((resolve, reject) => {
    get(url, { agent, headers }, response => {
      response.on('error', reject)
      response.on('end', () => {
        if (response.statusCode === 200) resolve()
        else reject(new Error(`${url} answered ${response.statusCode}`))
      })
      response.resume()
    }).on('error', reject)
  })
}
