import type { Deadline, SessionKey, WatchedTable } from '@orientor/session-contract/core'
import type { SyncMark } from './change-detection.js'
import type { UserState } from './observation.js'
import type { UserUpdate } from './user-update.js'

/** The key of a user who is looked for. */
export interface UserKey {
  readonly key: SessionKey
  readonly issuer: string
  readonly subject: string
}

/** A row of the users table. Instants are milliseconds since the epoch. */
export interface StoredUser extends UserKey, UserState, SyncMark {
  /** The row's own id, as text. */
  readonly userId: string
  readonly email: string | null
  readonly firstName: string | null
  readonly lastName: string | null
  readonly profile: Readonly<Record<string, unknown>> | null
  /** Whether the app lets the user in (`is_active`). */
  readonly isActive: boolean
  /** Whether the provider bars the user. */
  readonly blocked: boolean
  readonly onboardingCompleted: boolean
  /** 0 when nothing was revoked. */
  readonly tokensValidFromMs: number
  readonly revokedSessions: readonly string[]
  readonly revision: number
  /** Columns of the app's own. Left out: none. */
  readonly extra?: Readonly<Record<string, unknown>>
  /** The read mark of the row (`UserRecord.readMark`). Left out: not told. */
  readonly readMark?: string
}

/** The result of a look for users. */
export interface FoundUsers {
  readonly users: ReadonlyMap<SessionKey, StoredUser>
  /**
   * The read marks of those who have no row (`UserRecord.readMark`). Left out, or without a key: not told, or not
   * looked for.
   */
  readonly absentMarks?: ReadonlyMap<SessionKey, string>
}

/** A row that a write made or changed. */
export interface WrittenUser {
  readonly user: StoredUser
  readonly created: boolean
}

/** The result of one statement. `refused`: the data itself cannot be stored, and nothing of the statement was. */
export type WriteResult =
  | { readonly kind: 'done', readonly written: ReadonlyMap<SessionKey, WrittenUser> }
  | Refusal & { readonly kind: 'refused' }

/** The refusal of data that cannot be stored. */
export interface Refusal {
  /** Whether a unique value is another's. */
  readonly duplicate: boolean
  /** Whether it is the key that cannot be stored, so that no user can have it here. Left out: no. */
  readonly isKeyRefused?: boolean
  /** PostgreSQL's code of the refusal (Appendix A of its manual). Left out: it was not PostgreSQL that refused. */
  readonly sqlState?: string
  readonly error: Error
}

/** The way in which a write is made. */
export interface WriteMode {
  /** The instant at which the users were compared with the provider; null when they were not. */
  readonly syncedAtMs: number | null
  /** Whether users without a row get one; with false they are left out. */
  readonly creates: boolean
}

/** The way of an observation into the table: a request's load, a webhook, or a comparison of all users. */
export type Lane = 'request' | 'webhook' | 'reconciliation'

/** Something that was received about a user and could not be stored, for a person to look at. */
export interface DeadLetter {
  readonly lane: Lane
  readonly issuer: string
  /** null: it is not known, or cannot be stored itself. */
  readonly subject: string | null
  /** The bytes as they were received; where none were, the observation as JSON. */
  readonly received: Uint8Array
  /** null: it was not PostgreSQL that refused. */
  readonly sqlState: string | null
  /** The reason, without any value. */
  readonly reason: string
}

/** The fate of the row of a user who was deleted at the provider. */
export type DeletionPolicy = 'deactivate' | 'delete'

/**
 * A store of users. It rejects with SourceUnavailable when the database cannot be had in time; any other rejection is a
 * defect. What a method was asked for is committed when it resolves.
 */
export interface UserStore {
  /** Tables that find() reads. */
  readonly watches: readonly WatchedTable[]
  /** Most updates a write() takes. */
  readonly maxWrites: number
  /** Whether a user may have a row here at all; of others nothing is stored, not even a deletion. Left out: any may. */
  mayHold? (user: UserKey): boolean
  /** Whether write() may make a row for a user who has none. Left out: it may, for any. */
  mayCreate? (user: UserKey): boolean
  find (keys: readonly UserKey[], deadline: Deadline): Promise<FoundUsers>
  /**
   * Inserts or updates the users whose update is news, in the order given, and answers with those only. Never makes a
   * row for a user with a tombstone, not even for one whose deletion is being stored at the same time.
   *
   * @param updates - at most `maxWrites`, one per key, sorted by key, none of them a deletion
   */
  write (updates: readonly UserUpdate[], mode: WriteMode, deadline: Deadline): Promise<WriteResult>
  /**
   * Notes that these users are in step, unless they were found so after `dueBeforeMs`. Answers with those whose rows
   * the table does not take as they are, so that it cannot be noted.
   */
  touch (
    keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number, deadline: Deadline
  ): Promise<ReadonlySet<SessionKey>>
  /**
   * Leaves a tombstone for each of these users, and marks their rows as deleted. Answers with the rows that were marked
   * now. Every row is marked when it resolves, also one that was in the making.
   *
   * @param keys - at most `maxWrites`, sorted by key, of users who may have a row
   */
  markDeleted (keys: readonly UserKey[], deadline: Deadline): Promise<WriteResult>
  /**
   * Removes the rows of users that are marked as deleted.
   *
   * @param keys - at most `maxWrites`, sorted by key
   */
  deleteMarked (keys: readonly UserKey[], deadline: Deadline): Promise<WriteResult>
  /** Answers with those of the users who have a tombstone. */
  tombstonesOf (keys: readonly UserKey[], deadline: Deadline): Promise<ReadonlySet<SessionKey>>
  /** Keeps what could not be stored; the same bytes of one user and lane once. */
  keepDeadLetters (letters: readonly DeadLetter[], deadline: Deadline): Promise<void>
  /** Answers when the database does. */
  ping (deadline: Deadline): Promise<void>
}
