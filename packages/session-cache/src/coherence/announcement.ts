import type { SessionKeyHash, UserChange } from '@orientor/session-contract/core'

/** What is announced when all users may have changed. */
const everybody = '*'

/** A change as it is announced: `*`, a hash, or a hash and a revision. */
export function announcementOf (change: UserChange): string {
  if (change.kind === 'all') return everybody
  return change.revision === null ? change.keyHash : `${change.keyHash} ${change.revision}`
}

/**
 * Reads an announcement; null when it is none. A revision that is too large to be exact counts as not known.
 */
export function changeOf (announcement: string): UserChange | null {
  if (announcement === everybody) return { kind: 'all' }
  const parts = /^([0-9a-f]{64})(?: (\d{1,19}))?$/.exec(announcement)
  if (parts === null) return null
  const revision = parts[2] === undefined ? null : Number(parts[2])
  return { kind: 'user', keyHash: parts[1] as SessionKeyHash, revision: Number.isSafeInteger(revision) ? revision : null }
}
