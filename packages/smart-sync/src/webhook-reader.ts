import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyError } from '@fastify/error'
import type { Observation } from './observation.js'

/** The meaning of a webhook. */
export type WebhookReading =
  /** The observations that it makes: first the one that it was sent for, then what it tells besides. */
  | { readonly kind: 'observed', readonly observations: readonly [Observation, ...Observation[]] }
  /** It is genuine, and says nothing that is stored here. */
  | { readonly kind: 'ignored' }
  /** It is genuine, and cannot be read. `subject`: the user, where that much can be read. The reason holds no value. */
  | { readonly kind: 'unreadable', readonly subject: string | null, readonly reason: string }
  /** It is not genuine, or not meant for this service. */
  | {
    readonly kind: 'refused'
    readonly error: FastifyError
    /** More for the log. Left out: nothing. */
    readonly details?: Readonly<Record<string, unknown>>
  }

/** The webhooks of one identity provider: what they are verified by, and what they mean. */
export interface WebhookReader {
  /** The provider whose users the webhooks are about (`iss` of their tokens). */
  readonly issuer: string
  /**
   * Verifies a webhook, and reads it. Never throws for what was sent.
   *
   * @param headers - as Node.js joins them
   * @param body - the bytes as they were received
   */
  read (headers: IncomingHttpHeaders, body: Buffer): WebhookReading
}
