import { Webhook } from 'standardwebhooks'
import { clerkId } from './clerk-id.js'
import { invalidParameter, notFound } from './clerk-error.js'
import { DeliveryQueue } from './delivery-queue.js'
import { isLoopback } from './loopback.js'
import { ReorderBuffer } from './reorder-buffer.js'
import type { SimulatorClock } from './simulator-clock.js'
import { type MessageFate, WebhookFaults, webhookSecret } from './webhook-faults.js'

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

/** One attempt to deliver one event to one endpoint, or a message that was dropped by a fault. */
export interface Delivery {
  readonly endpointId: string
  /** The `svix-id` header, the same in every attempt. */
  readonly messageId: string
  /** 1 for the first attempt of the message; 0 when it was dropped. */
  readonly attempt: number
  readonly type: string
  /** The exact text that was signed and sent. */
  readonly payload: string
  /** The status of the answer, or null when there was none. */
  readonly status: number | null
  /** Why there was no answer, or null. */
  readonly failure: string | null
}

/** The dependencies of WebhookSender. */
export interface WebhookSenderDeps {
  readonly clock: SimulatorClock
  /** From 0 up to 1. */
  readonly random: () => number
  /** The secret of endpoints that were given none. */
  readonly defaultSecret: string
  /** The pauses between a failed attempt and the next one, in milliseconds; after the last one the sender gives up. */
  readonly retryDelaysMs: readonly number[]
  /** The number of events, messages and deliveries that are remembered, of each. */
  readonly maxRemembered: number
}

/** One event for one endpoint. */
interface Message {
  readonly id: string
  readonly endpoint: WebhookEndpoint
  readonly type: string
  readonly payload: string
  readonly fate: MessageFate
  attempts: number
}

/** An endpoint, and what belongs to it as long as it is registered. */
interface Route {
  readonly endpoint: WebhookEndpoint
  readonly reordered: ReorderBuffer<() => void>
  readonly queue: DeliveryQueue
}

const timeoutMs = 15_000

/**
 * Sends signed events to the registered endpoints over HTTP, in order per endpoint unless a fault says otherwise.
 * An attempt fails when the answer is not 2xx; the message is then sent again under the same id, with a new timestamp
 * and signature, after each of `retryDelaysMs`, and later messages do not wait for it.
 * Nothing leaves the machine: endpoints must be loopback addresses, and redirects are not followed.
 */
export class WebhookSender {
  /** The faults of webhooks. */
  readonly faults: WebhookFaults
  readonly #deps: WebhookSenderDeps
  readonly #routes = new Map<string, Route>()
  readonly #messages = new Map<string, Message>()
  readonly #events: WebhookEvent[] = []
  readonly #delivered: Delivery[] = []
  readonly #open = new Set<Promise<unknown>>()
  /** The functions that end each wait at once. */
  readonly #waits = new Set<() => void>()
  readonly #closing = new AbortController()

  constructor (deps: WebhookSenderDeps) {
    this.#deps = deps
    this.faults = new WebhookFaults(deps.random, () => { this.#releaseHeld() })
  }

  /** The latest events, in the order in which they happened, whether an endpoint was told or not. */
  get events (): readonly WebhookEvent[] {
    return [...this.#events]
  }

  /** @throws ClerkError 422 when the url is not http(s) to a loopback address or the secret is not one of Svix */
  addEndpoint ({ url, secret = this.#deps.defaultSecret, events }: WebhookEndpointInput): WebhookEndpoint {
    const target = URL.canParse(url) ? new URL(url) : null
    if (target === null || !/^https?:$/.test(target.protocol) || !isLoopback(target.hostname)) {
      throw invalidParameter('url', 'must be an http URL of a loopback address: webhooks do not leave this machine')
    }
    const endpoint = Object.freeze({
      id: clerkId('ep', this.#deps.clock.now()), url, secret: webhookSecret(secret), events: events ?? null
    })
    const queue = new DeliveryQueue(() => this.faults.fault?.maxInFlight ?? 1)
    this.#routes.set(endpoint.id, { endpoint, reordered: new ReorderBuffer(), queue })
    return endpoint
  }

  /**
   * Ends the registration: what was sent before still arrives, but is not tried again.
   *
   * @throws ClerkError 404 when there is no such endpoint
   */
  removeEndpoint (id: string): void {
    const { reordered } = this.#route(id)
    for (const release of reordered.flush()) release()
    this.#routes.delete(id)
  }

  /** Starts the deliveries of an event, one message for each endpoint; `deliveries()` tells when they are through. */
  send (event: WebhookEvent): void {
    const payload = JSON.stringify(event)
    remember(this.#events, event, this.#deps.maxRemembered)
    for (const route of this.#routes.values()) {
      const { endpoint } = route
      if (endpoint.events !== null && !endpoint.events.includes(event.type)) continue
      const fate = this.faults.draw()
      const id = clerkId('msg', this.#deps.clock.now())
      const message: Message = { id, endpoint, type: event.type, payload, fate, attempts: 0 }
      this.#keep(message)
      if (fate.isDropped) this.#note(message, 0, { status: null, failure: 'dropped by a fault' })
      else for (const setBack of fate.setBacks) this.#begin(route, message, setBack)
    }
  }

  /**
   * Sends a message once more, whatever became of it; no fault drops or delays it.
   *
   * @throws ClerkError 404 when it or its endpoint is unknown
   */
  async redeliver (messageId: string): Promise<Delivery> {
    const message = this.#messages.get(messageId)
    if (message === undefined) throw notFound('message', messageId)
    const { queue } = this.#route(message.endpoint.id)
    return await this.#track(queue.run(() => this.#attempt(message)))
  }

  /** The latest deliveries, in the order of their ends, once everything sent so far is through, retries included. */
  async deliveries (): Promise<readonly Delivery[]> {
    this.#releaseHeld()
    await Promise.all(this.#open)
    return [...this.#delivered]
  }

  /** Gives up what is under way. */
  async close (): Promise<void> {
    this.#closing.abort(new Error('the simulator is closing'))
    for (const end of this.#waits) end()
    await this.deliveries()
  }

  #route (endpointId: string): Route {
    const route = this.#routes.get(endpointId)
    if (route === undefined) throw notFound('webhook endpoint', endpointId)
    return route
  }

  #releaseHeld (): void {
    for (const { reordered } of this.#routes.values()) {
      for (const release of reordered.flush()) release()
    }
  }

  #begin (route: Route, message: Message, setBack: number): void {
    const delayMs = this.faults.fault?.delayMs ?? 0
    let release = (): void => {}
    const released = new Promise<void>(resolve => { release = resolve })
    this.#track(released.then(() => this.#deliver(route, message, delayMs)))
    for (const next of route.reordered.take(release, setBack)) next()
  }

  async #deliver ({ queue }: Route, message: Message, delayMs: number): Promise<void> {
    if (delayMs > 0) await this.#wait(delayMs)
    let { status } = await queue.run(() => this.#attempt(message))
    for (const retryDelayMs of this.#deps.retryDelaysMs) {
      if (isSuccess(status)) return
      await this.#wait(retryDelayMs)
      if (this.#closing.signal.aborted || !this.#routes.has(message.endpoint.id)) return
      status = (await queue.run(() => this.#attempt(message))).status
    }
  }

  /** Ends early when the simulator closes. */
  async #wait (delayMs: number): Promise<void> {
    if (this.#closing.signal.aborted) return
    await new Promise<void>(resolve => {
      const end = (): void => {
        clearTimeout(timer)
        this.#waits.delete(end)
        resolve()
      }
      const timer = setTimeout(end, delayMs)
      this.#waits.add(end)
    })
  }

  async #track<T> (work: Promise<T>): Promise<T> {
    this.#open.add(work)
    try {
      return await work
    } finally {
      this.#open.delete(work)
    }
  }

  async #attempt (message: Message): Promise<Delivery> {
    const { id, endpoint, payload } = message
    const stamp = new Date(this.#deps.clock.now())
    const attempt = ++message.attempts
    try {
      const response = await fetch(endpoint.url, {
        method: 'POST',
        redirect: 'manual',
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(timeoutMs)]),
        headers: {
          'content-type': 'application/json',
          'user-agent': 'Svix-Webhooks/1.0',
          'svix-id': id,
          'svix-timestamp': String(Math.floor(stamp.getTime() / 1000)),
          'svix-signature': new Webhook(this.faults.secretFor(message.fate, endpoint.secret)).sign(id, stamp, payload)
        },
        body: payload
      })
      await response.arrayBuffer()
      return this.#note(message, attempt, { status: response.status, failure: null })
    } catch (error) {
      return this.#note(message, attempt, { status: null, failure: String(error) })
    }
  }

  #keep (message: Message): void {
    this.#messages.set(message.id, message)
    for (const oldest of this.#messages.keys()) {
      if (this.#messages.size <= this.#deps.maxRemembered) break
      this.#messages.delete(oldest)
    }
  }

  #note (message: Message, attempt: number, outcome: Pick<Delivery, 'status' | 'failure'>): Delivery {
    const { endpoint, id: messageId, type, payload } = message
    const delivery = Object.freeze({ endpointId: endpoint.id, messageId, attempt, type, payload, ...outcome })
    remember(this.#delivered, delivery, this.#deps.maxRemembered)
    return delivery
  }
}

function isSuccess (status: number | null): boolean {
  return status !== null && status >= 200 && status < 300
}

function remember<T> (list: T[], item: T, max: number): void {
  list.push(item)
  if (list.length > max) list.shift()
}
