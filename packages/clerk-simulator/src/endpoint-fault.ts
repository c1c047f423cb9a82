import { Readable } from 'node:stream'
import { createGzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { InconsistentFault } from './moving-rows.js'

/** What can go wrong at an endpoint. Sizes are in bytes, times in milliseconds. */
export type EndpointFault =
  /** The connection is closed without an answer. */
  | { readonly kind: 'reset' }
  /** The request is taken and never answered. */
  | { readonly kind: 'hang' }
  /** The right answer comes late. */
  | { readonly kind: 'slow', readonly delayMs: number }
  /** The headers come at once, then one byte now and then, without end. */
  | { readonly kind: 'trickle' }
  /** Another status, with a Retry-After in seconds when it is given. */
  | { readonly kind: 'status', readonly status: number, readonly retryAfterSeconds?: number }
  /** 200, and a body that is not JSON, a page of HTML, nothing, or `{}`. */
  | { readonly kind: 'garbage' | 'html' | 'empty' | 'object' }
  /** 200, and JSON of this size; `gzip`: packed, so that little is sent. */
  | { readonly kind: 'huge', readonly bytes: number, readonly gzip?: boolean }
  /** 302 to another place. */
  | { readonly kind: 'redirect', readonly location: string }

/** A fault of the users API: one of any endpoint, or of lists alone. */
export type UsersFault = EndpointFault | InconsistentFault

/** The kinds of faults of any endpoint. */
export const faultKinds: ReadonlyArray<EndpointFault['kind']> = ['reset', 'hang', 'slow', 'trickle', 'status', 'garbage', 'html', 'empty', 'object', 'huge', 'redirect']

const bodies = { garbage: ['application/json', '{"keys":['], html: ['text/html', '<!doctype html><title>502 Bad Gateway</title>'], empty: ['application/json', ''], object: ['application/json', '{}'] } as const

/**
 * The faults of one endpoint, under whose spell it stands until another is set.
 */
export class FaultyEndpoint<Fault extends UsersFault = EndpointFault> {
  #fault: Fault | null = null
  readonly #held = new Set<() => void>()

  get fault (): Fault | null {
    return this.#fault
  }

  /** From now on; null: none. Requests that hang go on hanging. */
  set (fault: Fault | null): void {
    this.#fault = fault
  }

  /** Ends the requests that are held. */
  close (): void {
    for (const end of this.#held) end()
  }

  /** Answers in place of the endpoint. Resolves to false when the endpoint is to answer by itself, now. */
  async answer (reply: FastifyReply): Promise<boolean> {
    const fault: UsersFault | null = this.#fault
    if (fault === null || fault.kind === 'inconsistent') return false
    switch (fault.kind) {
      case 'slow':
        await this.#wait(reply, fault.delayMs)
        return false
      case 'reset':
        reply.hijack()
        reply.raw.destroy()
        return true
      case 'hang':
        this.#hold(reply)
        return true
      case 'trickle':
        this.#hold(reply)
        reply.raw.writeHead(200, { 'content-type': 'application/json' }).write('{')
        this.#every(100, reply, () => { reply.raw.write(' ') })
        return true
      case 'status':
        if (fault.retryAfterSeconds !== undefined) reply.header('retry-after', fault.retryAfterSeconds)
        reply.code(fault.status).type('text/html').send('<!doctype html><title>Error</title>')
        return true
      case 'redirect':
        reply.redirect(fault.location)
        return true
      case 'huge':
        sendHuge(reply, fault.bytes, fault.gzip ?? false)
        return true
      default:
        reply.type(bodies[fault.kind][0]).send(bodies[fault.kind][1])
        return true
    }
  }

  #hold (reply: FastifyReply): void {
    reply.hijack()
    const end = (): void => { reply.raw.destroy() }
    this.#held.add(end)
    reply.raw.once('close', () => { this.#held.delete(end) })
  }

  #every (periodMs: number, reply: FastifyReply, step: () => void): void {
    const timer = setInterval(step, periodMs)
    reply.raw.once('close', () => { clearInterval(timer) })
  }

  async #wait (reply: FastifyReply, delayMs: number): Promise<void> {
    await new Promise<void>(resolve => {
      const end = (): void => {
        clearTimeout(timer)
        this.#held.delete(end)
        resolve()
      }
      const timer = setTimeout(end, delayMs)
      this.#held.add(end)
      reply.raw.once('close', end)
    })
  }
}

/** An onRequest hook: the fault, if there is one, answers in place of the route. */
export function answerInPlace (
  endpoint: Pick<FaultyEndpoint, 'answer'>
): (request: FastifyRequest, reply: FastifyReply) => Promise<unknown> {
  return async (_request, reply) => await endpoint.answer(reply) ? reply : undefined
}

/** `{"keys":[],"fill":"xxx…"}` */
function sendHuge (reply: FastifyReply, bytes: number, gzip: boolean): void {
  const chunk = Buffer.alloc(65_536, 'x')
  const text = Readable.from((function * () {
    yield Buffer.from('{"keys":[],"fill":"')
    for (let sent = 0; sent < bytes; sent += chunk.length) yield chunk.subarray(0, Math.min(chunk.length, bytes - sent))
    yield Buffer.from('"}')
  })())
  reply.type('application/json')
  if (gzip) reply.header('content-encoding', 'gzip').send(text.pipe(createGzip()))
  else reply.send(text)
}
