import { Webhook } from 'standardwebhooks'
import { clerkId } from './clerk-id.js'
import { invalidParameter, notFound } from './clerk-error.js'
import { isLoopback } from './loopback.js'
import type { SimulatorClock } from './simulator-clock.js'

/** What is sent about a change. */
export interface WebhookEvent {
  readonly data: unknown
  readonly object: 'event'
  readonly type: string
  /** Milliseconds since the Unix epoch. */
  readonly timestamp: number
  readonly instance_id: string
  readonly event_attributes: { readonly http_request: { readonly client_ip: string, readonly user_agent: string } }
}

/** What an endpoint can be given. */
export interface WebhookEndpointInput {
  /** Must lead to a loopback address. */
  readonly url: string
  /** `whsec_` and base64. Default is the secret of the simulator. */
  readonly secret?: string
  /** The event types to send. Default is all. */
  readonly events?: readonly string[]
}

/** A registered endpoint. */
export interface WebhookEndpoint {
  readonly id: string
  readonly url: string
  readonly secret: string
  readonly events: readonly string[] | null
}

/** One attempt to deliver one event to one endpoint. */
export interface Delivery {
  readonly endpointId: string
  /** The `svix-id` header. */
  readonly messageId: string
  readonly type: string
  /** The exact text that was signed and sent. */
  readonly payload: string
  /** The status of the answer, or null when there was none. */
  readonly status: number | null
  /** Why there was no answer, or null. */
  readonly failure: string | null
}

const timeoutMs = 15_000
const maxRemembered = 1000

/**
 * Sends signed events to the registered endpoints over HTTP, one attempt each and in order per endpoint.
 * Nothing leaves the machine: endpoints must be loopback addresses, and redirects are not followed.
 */
export class WebhookSender {
  readonly #clock: SimulatorClock
  readonly #defaultSecret: string
  readonly #endpoints = new Map<string, WebhookEndpoint>()
  readonly #tails = new Map<string, Promise<void>>()
  readonly #delivered: Delivery[] = []
  readonly #closing = new AbortController()

  constructor (clock: SimulatorClock, defaultSecret: string) {
    this.#clock = clock
    this.#defaultSecret = defaultSecret
  }

  /** @throws ClerkError 422 when the url is not http(s) to a loopback address or the secret is not one of Svix */
  addEndpoint ({ url, secret = this.#defaultSecret, events }: WebhookEndpointInput): WebhookEndpoint {
    const target = URL.canParse(url) ? new URL(url) : null
    if (target === null || !/^https?:$/.test(target.protocol) || !isLoopback(target.hostname)) {
      throw invalidParameter('url', 'must be an http URL of a loopback address: webhooks do not leave this machine')
    }
    if (!/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/.test(secret)) throw invalidParameter('secret', 'must be whsec_ and base64 of at least 24 bytes')
    const endpoint = Object.freeze({ id: clerkId('ep', this.#clock.now()), url, secret, events: events ?? null })
    this.#endpoints.set(endpoint.id, endpoint)
    return endpoint
  }

  /** @throws ClerkError 404 when there is no such endpoint */
  removeEndpoint (id: string): void {
    if (!this.#endpoints.delete(id)) throw notFound('webhook endpoint', id)
  }

  /** Starts the deliveries of an event; `deliveries()` tells when they are through. Each endpoint gets an id of its own. */
  send (event: WebhookEvent): void {
    const payload = JSON.stringify(event)
    for (const endpoint of this.#endpoints.values()) {
      if (endpoint.events !== null && !endpoint.events.includes(event.type)) continue
      const messageId = clerkId('msg', this.#clock.now())
      const before = this.#tails.get(endpoint.id) ?? Promise.resolve()
      this.#tails.set(endpoint.id, before.then(() => this.#deliver(endpoint, messageId, event.type, payload)))
    }
  }

  /** The latest 1000 deliveries, once everything sent so far is through. */
  async deliveries (): Promise<readonly Delivery[]> {
    await Promise.all(this.#tails.values())
    return [...this.#delivered]
  }

  /** Gives up what is under way. */
  async close (): Promise<void> {
    this.#closing.abort(new Error('the simulator is closing'))
    await Promise.all(this.#tails.values())
  }

  async #deliver (endpoint: WebhookEndpoint, messageId: string, type: string, payload: string): Promise<void> {
    const attempt = { endpointId: endpoint.id, messageId, type, payload }
    const stamp = new Date(this.#clock.now())
    let outcome: Pick<Delivery, 'status' | 'failure'>
    try {
      const response = await fetch(endpoint.url, {
        method: 'POST',
        redirect: 'manual',
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(timeoutMs)]),
        headers: {
          'content-type': 'application/json',
          'user-agent': 'Svix-Webhooks/1.0',
          'svix-id': messageId,
          'svix-timestamp': String(Math.floor(stamp.getTime() / 1000)),
          'svix-signature': new Webhook(endpoint.secret).sign(messageId, stamp, payload)
        },
        body: payload
      })
      await response.arrayBuffer()
      outcome = { status: response.status, failure: null }
    } catch (error) {
      outcome = { status: null, failure: String(error) }
    }
    this.#delivered.push(Object.freeze({ ...attempt, ...outcome }))
    if (this.#delivered.length > maxRemembered) this.#delivered.shift()
  }
}
