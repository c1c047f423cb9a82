import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyError } from '@fastify/error'
import {
  SourceUnavailable, startDeadline, withinDeadline, type Clock, type Deadline
} from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { Semaphore } from './semaphore.js'
import type { SmartDatabaseSync } from './smart-database-sync.js'
import type { SyncOutcome } from './sync-outcome.js'
import type { WebhookReader } from './webhook-reader.js'
import type { WebhookStats } from './webhook-stats.js'

/** Options of WebhookReceiver. */
export interface WebhookReceiverOptions {
  readonly reader: WebhookReader
  readonly sync: Pick<SmartDatabaseSync, 'apply' | 'deadLetter'>
  readonly stats: WebhookStats
  readonly clock: Clock
}

/** The result of a webhook. Whatever is not refused is committed, or `not_stored`. */
export type WebhookResult =
  /** Stored, or no news. `outcome`: of the observation that it was sent for. */
  | { readonly kind: 'applied', readonly outcome: SyncOutcome['kind'] }
  /** Kept as a dead letter: as a whole, or a part of it, beside the observation that it was sent for. */
  | { readonly kind: 'dead_lettered', readonly outcome: SyncOutcome['kind'] }
  | { readonly kind: 'ignored' }
  | { readonly kind: 'refused', readonly error: FastifyError, readonly details?: Readonly<Record<string, unknown>> }
  | { readonly kind: 'not_stored', readonly error: FastifyError, readonly retryAfterMs: number }

/** The longest that storing may take, in milliseconds: senders give up after 10 to 15 s, and answers travel. */
const patienceMs = 8000
/** The most webhooks that are stored at once: requests must find connections while a row is locked, or many come. */
const maxStoredAtOnce = 3
/** The pause until a sender should try again where the cause does not say, in milliseconds. */
const defaultRetryAfterMs = 1000

/** The way of webhooks into the users table: verified, read, applied, and answered for only when that is committed. */
export class WebhookReceiver {
  readonly #options: WebhookReceiverOptions
  readonly #semaphore = new Semaphore(maxStoredAtOnce, 'The users table')

  constructor (options: WebhookReceiverOptions) {
    this.#options = options
  }

  /** Takes a webhook. Never rejects: what could not be stored within 8 seconds is a result, too. */
  async receive (headers: IncomingHttpHeaders, body: Buffer): Promise<WebhookResult> {
    const deadline = startDeadline(this.#options.clock, patienceMs)
    try {
      return this.#counted(await withinDeadline(this.#store(headers, body, deadline), deadline, 'The database'))
    } catch (cause) {
      const retryAfterMs = cause instanceof SourceUnavailable ? cause.retryAfterMs : defaultRetryAfterMs
      return this.#counted({ kind: 'not_stored', error: new errors.WebhookNotStored({ cause }), retryAfterMs })
    } finally {
      deadline.release()
    }
  }

  /** Takes note of a webhook that was refused before its body could be had. */
  refuse (error: FastifyError): WebhookResult {
    return this.#counted({ kind: 'refused', error })
  }

  async #store (headers: IncomingHttpHeaders, body: Buffer, deadline: Deadline): Promise<WebhookResult> {
    const { reader, sync } = this.#options
    const reading = reader.read(headers, body)
    switch (reading.kind) {
      case 'refused': case 'ignored': return reading
      case 'unreadable': {
        const { subject, reason } = reading
        const letter = { lane: 'webhook', issuer: reader.issuer, subject, received: body, reason } as const
        await this.#semaphore.run(async () => { await sync.deadLetter(letter, deadline) }, deadline)
        return { kind: 'dead_lettered', outcome: 'dead_lettered' }
      }
      case 'observed': {
        const { observations } = reading
        const outcomes = await this.#semaphore.run(async () => {
          return await sync.apply(observations, { lane: 'webhook', deadline, received: body })
        }, deadline)
        const isKept = outcomes.some(({ kind }) => kind === 'dead_lettered')
        return { kind: isKept ? 'dead_lettered' : 'applied', outcome: outcomes[0]!.kind }
      }
    }
  }

  #counted (result: WebhookResult): WebhookResult {
    this.#options.stats.received(result.kind)
    return result
  }
}
