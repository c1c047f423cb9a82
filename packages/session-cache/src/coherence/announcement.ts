import type { SessionKeyHash, UserChange } from '@orientor/session-contract/core'

/** The announcement that all users may have changed. */
const everybody = '*'

/**
 * The text of a change, in the answer to a poll and in a ring: `*` (all users), a hash (64 hexadecimal digits), or a
 * hash, a blank and a revision.
 */
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
  const [, keyHash, digits] = parts
  const number = digits === undefined ? null : Number(digits)
  const revision = Number.isSafeInteger(number) ? number : null
  return { kind: 'user', keyHash: keyHash as SessionKeyHash, revision }
}
