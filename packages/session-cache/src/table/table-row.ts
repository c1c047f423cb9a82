import {
  deepFreeze, extraOfRow, instantMsOfText, objectOfText, revisionOfText, tokensValidFromMsOfText, type LoadRequest,
  type TextRow, type UserRecord
} from '@orientor/session-contract/core'
import type { TableSourceConfig } from './table-source-options.js'

/** The record of the user who was asked for, as the row has it: deleted, inactive or active. */
export function recordOfRow (row: TextRow, { issuer, subject }: LoadRequest, config: TableSourceConfig): UserRecord {
  const { columns: { onboardingCompleted }, extra } = config
  const read = { revision: revisionOfText(row['revision']), ...markOfRow(row) }
  if (isTrue(row['deletedAt'])) return Object.freeze({ kind: 'deleted', ...read })
  // Null counts as active.
  if (row['isActive'] === 'false') return Object.freeze({ kind: 'inactive', ...read })
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
      providerUpdatedAt: instantMsOfText(row['providerUpdatedAt']),
      profile: objectOfText(row['profile']),
      extra: extraOfRow(row, extra)
    },
    ...read,
    sync: 'skipped',
    lastSyncedAtMs: null,
    tokensValidFromMs: tokensValidFromMsOfText(row['tokensValidFrom']),
    revokedSessions: []
  })
}

/** The mark of the statement that a row answers. */
export function markOfRow (row: TextRow | undefined): Pick<UserRecord, 'readMark'> {
  const readMark = row?.['readMark'] ?? null
  return readMark === null ? {} : { readMark }
}

function isTrue (text: string | null | undefined): boolean {
  return text === 'true'
}
