/**
 * What the checker is told. All instants are milliseconds of one monotonic clock, the checker's own; no clock of an instance or of the
 * database is ever compared with it.
 */

/** A write that succeeded: the version was committed at some instant between the two. */
export interface Commit {
  readonly key: string
  /** Grows with every commit of the key; never used twice, not even when it is unknown whether the first use was committed. */
  readonly version: number
  readonly sentAtMs: number
  readonly returnedAtMs: number
}

/** What an instance answered. */
export type Answer =
  | { readonly kind: 'user', readonly key: string, readonly version: number, readonly marked: boolean }
  /** Status null: no answer at all. */
  | { readonly kind: 'failed', readonly status: number | null }

/** One request for a user, as seen from outside. */
export interface Read {
  readonly instance: string
  /** Who was asked for. */
  readonly key: string
  readonly begunAtMs: number
  readonly endedAtMs: number
  readonly answer: Answer
}
