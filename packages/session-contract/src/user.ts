/** The one type an app widens by declaration merging; its `parseProfile` option makes it true. */
export interface SessionProfile {}

/**
 * The columns of the app's own table that its source reads beside the fields below, under their names. An app widens
 * this one type by declaration merging; the option `extra` of its source makes it true.
 */
export interface SessionExtra {}

/** Facts about the local user, nothing about the request or the cache. Deep-frozen. */
export interface SessionUser {
  /** The local id, exact, as text (a bigint column does not fit a JavaScript number). */
  readonly userId: string
  readonly issuer: string
  readonly subject: string
  readonly email: string | null
  readonly firstName: string | null
  readonly lastName: string | null
  /** Always true: an inactive user never reaches a handler. */
  readonly isActive: true
  readonly onboardingCompleted: boolean
  /** When the provider last changed the user, in milliseconds since the epoch. */
  readonly providerUpdatedAt: number | null
  /** What the provider says beside; never the app's own. */
  readonly profile: Readonly<SessionProfile> | null
  /** The columns of the app's own table beside (`extra` of its source); empty where the source was given none. */
  readonly extra: Readonly<SessionExtra>
}

/** A user as a source answers it: `extra` may be left out, and is empty then. */
export type LoadedUser = Omit<SessionUser, 'extra'> & Partial<Pick<SessionUser, 'extra'>>

/** A user who may act, with what a request must be judged by. */
export interface ActiveRecord {
  readonly kind: 'active'
  readonly user: LoadedUser
  /** The row's own version: grows on any change, by whomever; never the provider's. */
  readonly revision: number
  readonly sync: 'performed' | 'skipped' | 'failed'
  readonly lastSyncedAtMs: number | null
  /** A token issued in or before this second is refused. Milliseconds since the epoch; 0 when nothing was revoked. */
  readonly tokensValidFromMs: number
  readonly revokedSessions: readonly string[]
  /**
   * The read mark of the record, as readMarkSql() has it: server, database, isolation, relation. Left out: the source does
   * not tell. A cache with a bus stores a record only if what the bus proves holds there.
   */
  readonly readMark?: string
}

/** A user who must not pass: known but switched off, deleted, or unknown to the provider. */
export interface BarredRecord {
  readonly kind: 'inactive' | 'deleted' | 'unknown'
  readonly revision: number
  /** As that of an active record. */
  readonly readMark?: string
}

/** What a source knows about one key. */
export type UserRecord = ActiveRecord | BarredRecord
