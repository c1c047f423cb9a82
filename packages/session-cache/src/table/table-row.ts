import {
  deepFreeze, exactJson, type LoadRequest, type SessionExtra, type SessionProfile, type UserRecord
} from '@orientor/session-contract/core'
import { extraField } from './table-plan.js'
import type { TableSourceConfig } from './table-source-options.js'

/** A row as the server sends it: text, or null. */
export type TableRow = Readonly<Record<string, string | null>>

/** What a row says of the user who was asked for: deleted, inactive or active. */
export function recordOfRow (row: TableRow, { issuer, subject }: LoadRequest, config: TableSourceConfig): UserRecord {
  const { columns: { onboardingCompleted }, extra } = config
  const revision = revisionOf(row['revision'])
  if (isTrue(row['deletedAt'])) return Object.freeze({ kind: 'deleted', revision })
  // Null counts as active.
  if (row['isActive'] === 'false') return Object.freeze({ kind: 'inactive', revision })
  return deepFreeze({
    kind: 'active',
    user: {
      userId: row['userId'] ?? '',
      issuer,
      subject,
      email: row['email'] ?? null,
      firstName: row['firstName'] ?? null,
      lastName: row['lastName'] ?? null,
      isActive: true,
      onboardingCompleted: typeof onboardingCompleted === 'string'
        ? isTrue(row['onboardingCompleted'])
        : onboardingCompleted.always,
      providerUpdatedAt: instantOf(row['providerUpdatedAt']),
      profile: objectOf(row['profile']),
      extra: Object.fromEntries(extra.map((name, place) => [name, exactJson(row[extraField(place)])])) as SessionExtra
    },
    revision,
    sync: 'skipped',
    lastSyncedAtMs: null,
    // 'infinity' revokes every token there will ever be.
    tokensValidFromMs: Math.min(Math.max(Number(row['tokensValidFrom'] ?? 0), 0), Number.MAX_SAFE_INTEGER),
    revokedSessions: []
  })
}

function isTrue (text: string | null | undefined): boolean {
  return text === 'true'
}

/** 0, which is no revision, where there is none that is exact. */
function revisionOf (text: string | null | undefined): number {
  const revision = Number(text ?? 0)
  return Number.isSafeInteger(revision) && revision > 0 ? revision : 0
}

function instantOf (text: string | null | undefined): number | null {
  const ms = Number(text ?? NaN)
  return Number.isFinite(ms) ? ms : null
}

function objectOf (json: string | null | undefined): Readonly<SessionProfile> | null {
  const value: unknown = JSON.parse(json ?? 'null')
  return typeof value === 'object' && !Array.isArray(value) ? value : null
}
