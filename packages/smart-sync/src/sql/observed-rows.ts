import { quotedName } from '@orientor/session-contract/core'
import type { Observation } from '../observation.js'
import type { UsersTable, writtenFields } from '../users-table.js'

/**
 * SQL for observations as rows called `o`, for a FROM clause: `$1` to `$9`.
 *
 * @param more - columns of text beside them, by name: `$11` and on
 */
export function observedRows (more: readonly string[] = []): string {
  const lists = more.map((_, index) => `, $${index + 11}::text[]`).join('')
  const names = more.map(name => `, ${name}`).join('')
  return `unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[],
    $8::timestamptz[], $9::text[]${lists}) WITH ORDINALITY
  AS o(issuer, subject, email, first_name, last_name, profile, blocked, updated_at, fingerprint${names}, place)`
}

/** The values of observedRows(), and as `$10` the instant at which they were compared with the provider. */
export function observedValues (observations: readonly Observation[], syncedAtMs: number | null): unknown[] {
  return [
    observations.map(({ issuer }) => issuer),
    observations.map(({ subject }) => subject),
    observations.map(({ profile }) => profile.email),
    observations.map(({ profile }) => profile.firstName),
    observations.map(({ profile }) => profile.lastName),
    observations.map(({ profile }) => profile.data === null ? null : JSON.stringify(profile.data)),
    observations.map(({ profile }) => profile.blocked),
    observations.map(({ version }) => instant(version)),
    observations.map(({ fingerprint }) => fingerprint),
    instant(syncedAtMs)
  ]
}

/** SQL for the values that are written into the row called `u`, by the field of a user. */
export type Incoming = Readonly<Record<typeof writtenFields[number], string>>

/**
 * SQL for the assignments of an UPDATE of the row called `u`. An observation whose fingerprint begins with 0 is
 * partial: what it leaves null is kept, and so is the provider's bar.
 */
export function assignments ({ columns }: UsersTable, incoming: Incoming): string {
  const of = (field: keyof Incoming): string => quotedName(columns[field])
  const isComplete = `${incoming.fingerprint} LIKE '1%'`
  const kept = (field: 'email' | 'firstName' | 'lastName' | 'profile'): string => {
    const partial = `coalesce(${incoming[field]}, u.${of(field)})`
    return `${of(field)} = CASE WHEN ${isComplete} THEN ${incoming[field]} ELSE ${partial} END`
  }
  return [
    kept('email'), kept('firstName'), kept('lastName'), kept('profile'),
    `${of('blocked')} = CASE WHEN ${isComplete} THEN ${incoming.blocked} ELSE u.${of('blocked')} END`,
    `${of('providerUpdatedAt')} = ${incoming.providerUpdatedAt}`,
    `${of('fingerprint')} = ${incoming.fingerprint}`,
    `${of('lastSyncedAt')} = coalesce(${incoming.lastSyncedAt}, u.${of('lastSyncedAt')})`
  ].join(',\n  ')
}

/** SQL for whether an observation is news for the row called `u`: the rule of isNews(). */
export function isNewsFor ({ columns }: UsersTable, incoming: Incoming): string {
  const version = `u.${quotedName(columns.providerUpdatedAt)}`
  const fingerprint = `coalesce(u.${quotedName(columns.fingerprint)}, '')`
  return `u.${quotedName(columns.deletedAt)} IS NULL AND CASE
  WHEN ${incoming.providerUpdatedAt} IS NULL THEN ${version} IS NULL
    AND ${fingerprint} <> ${incoming.fingerprint}
    AND left(${fingerprint}, 1) COLLATE "C" <= left(${incoming.fingerprint}, 1)
  WHEN ${version} IS NULL OR ${version} < ${incoming.providerUpdatedAt} THEN true
  ELSE ${version} = ${incoming.providerUpdatedAt} AND ${fingerprint} COLLATE "C" < ${incoming.fingerprint}
END`
}

function instant (ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
