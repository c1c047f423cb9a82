import type { StoredUser } from './user-store.js'

/** The outcome of one observation that was given to apply(). */
export type SyncOutcome =
  /** `unchanged`: the row had this content; its version may be new. `outdated`: it has a later one. */
  | { readonly kind: 'created' | 'updated' | 'unchanged' | 'outdated', readonly user: StoredUser }
  /** The user is deleted: by this observation, or before. */
  | { readonly kind: 'tombstoned' }
  /**
   * The user has no row, and none may be made (`createUsers: false`), or is of an issuer whose users the table does not
   * hold, or nothing was said that would make a row.
   */
  | { readonly kind: 'unknown' }
  /** It cannot be stored, and was kept as a dead letter. */
  | { readonly kind: 'dead_lettered', readonly error: Error }
