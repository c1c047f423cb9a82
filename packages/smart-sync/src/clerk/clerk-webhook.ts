import type { IncomingHttpHeaders } from 'node:http'
import { parseProviderTimestamp, subjectFlaw, type Clock } from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import { isJsonObject, type JsonObject } from '../json-object.js'
import {
  isSessionId, observe, sessionEnded, userDeleted, type Observation, type ProfileObserved
} from '../observation.js'
import type { WebhookReader, WebhookReading } from '../webhook-reader.js'
import { WebhookSignature } from '../webhook-signature.js'
import { readClerkUser } from './clerk-user.js'

/** Options of ClerkWebhook. */
export interface ClerkWebhookOptions {
  /** The secrets of the endpoint, each of which isWebhookSecret(): any of them may have signed. */
  readonly secrets: readonly string[]
  /** `iss` of the tokens of the users. */
  readonly issuer: string
  /** The only instance whose events are taken (`ins_…`); null: whichever signs with the secrets. */
  readonly instanceId: string | null
  /** The longest life of a token after its session ended, in milliseconds. */
  readonly revokedForMs: number
  readonly clock: Pick<Clock, 'now'>
}

/** Webhooks of Clerk: verified, and read as observations of users. */
export class ClerkWebhook implements WebhookReader {
  readonly issuer: string
  readonly #signature: WebhookSignature
  readonly #options: ClerkWebhookOptions

  constructor (options: ClerkWebhookOptions) {
    this.issuer = options.issuer
    this.#signature = new WebhookSignature(options.secrets, options.clock)
    this.#options = options
  }

  read (headers: IncomingHttpHeaders, body: Buffer): WebhookReading {
    const flaw = this.#signature.flawOf(headers, body)
    if (flaw !== null) return { kind: 'refused', error: new errors.WebhookUnverified(flaw) }
    let event: unknown
    try {
      event = JSON.parse(body.toString())
    } catch {
      return unreadable('the body is not JSON')
    }
    return this.#readEvent(event)
  }

  #readEvent (event: unknown): WebhookReading {
    if (!isJsonObject(event)) return unreadable('the body is not a JSON object')
    const { instanceId } = this.#options
    const { type, data: given, instance_id: from, timestamp } = event
    const data = isJsonObject(given) ? given : {}
    if (instanceId !== null && from !== instanceId) {
      return { kind: 'refused', error: new errors.WebhookForeign(), details: { expected: instanceId } }
    }
    switch (type) {
      case 'user.created': case 'user.updated': return this.#readUser(data)
      case 'user.deleted': return this.#readDeletion(data)
      case 'session.created': case 'session.pending': return this.#readStart(data)
      case 'session.ended': case 'session.removed': case 'session.revoked': return this.#readEnd(data, timestamp)
      default: return typeof type === 'string' ? { kind: 'ignored' } : unreadable('the event has no type')
    }
  }

  #readUser (data: JsonObject): WebhookReading {
    const profile = this.#profileOf(data)
    return profile === null ? unreadable('it holds no user that can be read') : observed(profile)
  }

  #readDeletion ({ id }: JsonObject): WebhookReading {
    return isSubject(id) ? observed(userDeleted(this.issuer, id)) : unreadable('it does not say which user was deleted')
  }

  /** A sign-in itself is not stored, but its user is told along with it. */
  #readStart ({ user_id: subject, user }: JsonObject): WebhookReading {
    if (!isSubject(subject)) return unreadable('it does not say whose session it is')
    const profile = this.#profileIn(user, subject)
    return profile === null ? { kind: 'ignored' } : observed(profile)
  }

  #readEnd ({ user_id: subject, id: sessionId, user }: JsonObject, timestamp: unknown): WebhookReading {
    if (!isSubject(subject)) return unreadable('it does not say whose session it is')
    if (!isSessionId(sessionId)) return unreadable('it does not say which session is over', subject)
    // Of the event, not of its arrival: each delivery then says the same. Later than now no session can have ended.
    const nowMs = this.#options.clock.now()
    const endedAtMs = Math.min(parseProviderTimestamp(timestamp) ?? nowMs, nowMs)
    const end = sessionEnded(this.issuer, subject, sessionId, endedAtMs + this.#options.revokedForMs)
    const profile = this.#profileIn(user, subject)
    return profile === null ? observed(end) : observed(end, profile)
  }

  /** The profile that is told along with a session; null when none is, or that of another user. */
  #profileIn (user: unknown, subject: string): ProfileObserved | null {
    const profile = this.#profileOf(user)
    return profile?.subject === subject ? profile : null
  }

  #profileOf (value: unknown): ProfileObserved | null {
    const user = readClerkUser(value)
    if (user === null || !isSubject(user.subject)) return null
    return observe(this.issuer, user.subject, user.profile, user.version, true)
  }
}

function observed (...observations: readonly [Observation, ...Observation[]]): WebhookReading {
  return { kind: 'observed', observations }
}

function unreadable (reason: string, subject: string | null = null): WebhookReading {
  return { kind: 'unreadable', subject, reason }
}

function isSubject (value: unknown): value is string {
  return subjectFlaw(value) === null
}
