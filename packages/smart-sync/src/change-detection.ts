import { parseProviderTimestamp } from '@orientor/session-contract/core'

/**
 * The stored instants of a user's last change and last comparison with the provider; milliseconds since the epoch.
 */
export interface SyncMark {
  /** The provider's last change of the user; null while nothing that the provider dated was stored. */
  readonly providerUpdatedAtMs: number | null
  /** The last comparison after which the row was in step with the provider; null while it never was. */
  readonly lastSyncedAtMs: number | null
}

/** The decision whether the provider is asked, and its reason. */
export type SyncDecision =
  | { readonly sync: true, readonly reason: 'missing' | 'forced' | 'newer' | 'unreadable' | 'unversioned' | 'due' }
  | { readonly sync: false, readonly reason: 'current' | 'not_due' }

/**
 * Decides whether a stored user has to be compared with the provider.
 *
 * No row: yes. No timestamp from the provider: only when `forceSyncAfterMs` has passed since the last sync. Strictly
 * newer than what is stored, or nothing stored to compare it with: yes. A timestamp that cannot be read: yes, at most
 * once per `forceSyncAfterMs`. Equal or older: no. `force` overrules all of it.
 *
 * @param stored - null when there is no row
 * @param providerTimestamp - as the provider wrote it; undefined and null mean that it did not say
 */
export function needsSync ({ stored, providerTimestamp, nowMs, forceSyncAfterMs, force = false }: {
  readonly stored: SyncMark | null
  readonly providerTimestamp: unknown
  readonly nowMs: number
  readonly forceSyncAfterMs: number
  readonly force?: boolean
}): SyncDecision {
  if (stored === null) return { sync: true, reason: 'missing' }
  if (force) return { sync: true, reason: 'forced' }
  const due = isDue(stored.lastSyncedAtMs, nowMs, forceSyncAfterMs)
  if (providerTimestamp === undefined || providerTimestamp === null) return once('due', due)
  const provided = parseProviderTimestamp(providerTimestamp)
  if (provided === null) return once('unreadable', due)
  if (stored.providerUpdatedAtMs === null) return { sync: true, reason: 'unversioned' }
  return provided > stored.providerUpdatedAtMs ? { sync: true, reason: 'newer' } : { sync: false, reason: 'current' }
}

/**
 * Whether the force interval has passed. A last sync that lies a whole interval ahead comes from a clock that was
 * wrong, and counts as passed.
 */
export function isDue (lastSyncedAtMs: number | null, nowMs: number, forceSyncAfterMs: number): boolean {
  return lastSyncedAtMs === null || Math.abs(nowMs - lastSyncedAtMs) >= forceSyncAfterMs
}

function once (reason: 'due' | 'unreadable', due: boolean): SyncDecision {
  return due ? { sync: true, reason } : { sync: false, reason: 'not_due' }
}
