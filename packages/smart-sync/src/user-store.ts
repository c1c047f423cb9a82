import type { Deadline, SessionKey, WatchedTable } from '@orientor/session-contract/core'
import type { SyncMark } from './change-detection.js'
import type { Observation, UserState } from './observation.js'

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
   * The read marks of those who have no row (`UserRecord.readMark`). Left out, or without a key: not told, or not looked
   * for.
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
  | {
    readonly kind: 'refused'
    readonly duplicate: boolean
    /** Whether it is the key that cannot be stored, so that no user can have it here. Left out: no. */
    readonly isKeyRefused?: boolean
    readonly error: Error
  }

/**
 * A store of users. Every method is one statement, and more where a row is refused; it rejects with SourceUnavailable
 * when the database cannot be had in time; any other rejection is a defect.
 */
export interface UserStore {
  /** Tables that find() reads. */
  readonly watches: readonly WatchedTable[]
  /** Most observations a write() takes. */
  readonly maxWrites: number
  /** Whether write() may make a row for a user who has none. Left out: it may, for any. */
  mayCreate? (user: UserKey): boolean
  find (keys: readonly UserKey[], deadline: Deadline): Promise<FoundUsers>
  /**
   * Inserts or updates the users whose observation is news, in the order given, and answers with those only.
   *
   * @param observations - at most `maxWrites`, one per key, sorted by key
   * @param syncedAtMs - when they were compared with the provider; null when they were not
   */
  write (observations: readonly Observation[], syncedAtMs: number | null, deadline: Deadline): Promise<WriteResult>
  /**
   * Notes that these users are in step, unless they were found so after `dueBeforeMs`. Answers with those whose rows the table
   * does not take as they are, so that it cannot be noted.
   */
  touch (keys: readonly UserKey[], syncedAtMs: number, dueBeforeMs: number, deadline: Deadline): Promise<ReadonlySet<SessionKey>>
  /** Answers when the database does. */
  ping (deadline: Deadline): Promise<void>
}
