import { createIdentity, outcomeOf, userOutcome, type ActiveRecord, type SessionKey, type SessionKeyHash, type SessionOutcome, type UserOutcome, type UserRecord } from '@orientor/session-contract/core'
import type { Ageing } from './freshness.js'

// A record of a user who must not pass is the same answer to every identity.
const anyone = createIdentity({ issuer: 'urn:any', subject: 'anyone' })

/** Why an entry is not in its store any more. */
export type Leaving = 'evicted' | 'expired' | 'invalidated' | 'replaced'

/** What an entry is made of. */
export interface SessionEntryParts extends Ageing {
  readonly key: SessionKey
  readonly keyHash: SessionKeyHash
  readonly record: UserRecord
  /** The newest provider timestamp that the load took notice of; -Infinity when there was none. */
  readonly hintMs: number
}

/**
 * One user in memory: the record, what a hit answers with, and the links of the store, in one flat object,
 * so that a hit reads one place and allocates nothing.
 */
export class SessionEntry implements Ageing {
  readonly key: SessionKey
  readonly keyHash: SessionKeyHash
  readonly revision: number
  /** The outcome of a hit. */
  readonly fresh: SessionOutcome
  /** Whether this is a user who may pass. */
  readonly active: boolean
  /** The record, when it revokes some of the user's tokens: then each identity is judged by it. Null when all pass. */
  readonly revoking: ActiveRecord | null
  readonly loadedAtMs: number
  readonly loadedWallMs: number
  readonly epoch: number
  readonly refreshAfterMs: number
  readonly expireAfterMs: number
  readonly staleIfErrorMs: number
  /** Until when no further load is started behind a hit, on the monotonic clock. */
  restsUntilMs: number
  /** Raised when a claim that is newer was followed up. */
  hintMs: number

  /** The store's: the generation that it lives in; null once it left. */
  home: object | null
  /** The store's: why it left. */
  left: Leaving | null
  /** The store's: whether it was hit since the hand last passed. */
  visited: boolean
  /** The store's: neighbours in its queue. */
  newer: SessionEntry | null
  older: SessionEntry | null

  constructor (parts: SessionEntryParts) {
    const { record } = parts
    this.key = parts.key
    this.keyHash = parts.keyHash
    this.revision = record.revision
    this.fresh = record.kind === 'active' ? userOutcome(record, 'cache', parts.loadedWallMs, false) : outcomeOf(record, anyone, 'cache', parts.loadedWallMs)
    this.active = record.kind === 'active'
    this.revoking = record.kind === 'active' && (record.tokensValidFromMs > 0 || record.revokedSessions.length > 0) ? record : null
    this.loadedAtMs = parts.loadedAtMs
    this.loadedWallMs = parts.loadedWallMs
    this.epoch = parts.epoch
    this.refreshAfterMs = parts.refreshAfterMs
    this.expireAfterMs = parts.expireAfterMs
    this.staleIfErrorMs = parts.staleIfErrorMs
    this.restsUntilMs = -Infinity
    this.hintMs = parts.hintMs
    this.home = null
    this.left = null
    this.visited = false
    this.newer = null
    this.older = null
  }

  /**
   * The outcome when the entry is too old and the source cannot be asked; null for users who must not pass. Made when it is needed:
   * kept, it would be a tenth of what a user takes up.
   */
  get stale (): UserOutcome | null {
    return this.active ? Object.freeze<UserOutcome>({ ...this.fresh as UserOutcome, stale: true }) : null
  }
}
