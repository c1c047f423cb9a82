import { quotedName } from '@orientor/session-contract/core'
import type { UserUpdate } from '../user-update.js'
import type { UserColumns, UsersTable, writtenFields } from '../users-table.js'
import { addsSessions, mergedSessions } from './ended-sessions.js'

/**
 * SQL for updates as rows called `o`, for a FROM clause: `$1` to `$9`.
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

/**
 * The values of observedRows(), and as `$10` the instant at which they were compared with the provider. An update
 * without a profile has no fingerprint, by which it is no news for any row.
 */
export function observedValues (updates: readonly UserUpdate[], syncedAtMs: number | null): unknown[] {
  const profiles = updates.map(({ profile }) => profile)
  return [
    updates.map(({ issuer }) => issuer),
    updates.map(({ subject }) => subject),
    profiles.map(observed => observed?.profile.email ?? null),
    profiles.map(observed => observed?.profile.firstName ?? null),
    profiles.map(observed => observed?.profile.lastName ?? null),
    profiles.map(observed => jsonOf(observed?.profile.data ?? null)),
    profiles.map(observed => observed?.profile.blocked ?? false),
    profiles.map(observed => instant(observed?.version ?? null)),
    profiles.map(observed => observed?.fingerprint ?? null),
    instant(syncedAtMs)
  ]
}

/** SQL for the values that are written into the row called `u`, by the field of a user. */
export type Incoming = Readonly<Record<typeof writtenFields[number], string>> & {
  /** Sessions that are over, as jsonb. Left out: the statement knows of none. */
  readonly endedSessions?: string
}

/**
 * SQL for the assignments of an UPDATE of the row called `u`. An observation whose fingerprint begins with 0 is
 * partial: what it leaves null is kept, and so is the provider's bar. One whose fingerprint is that of the row has the
 * same content: then what the row holds stays as it is, and nothing but the version is written.
 */
export function assignments (table: UsersTable, incoming: Incoming): string {
  const { columns } = table
  const { endedSessions } = incoming
  const own = (field: keyof UserColumns): string => `u.${quotedName(columns[field])}`
  const set = (field: keyof UserColumns, value: string): string => `${quotedName(columns[field])} = ${value}`
  // Sessions that are over are written whether or not the profile is news.
  const setByNews = (field: keyof UserColumns, value: string): string => set(field, endedSessions === undefined
    ? value
    : `CASE WHEN ${isNewsFor(table, incoming)} THEN ${value} ELSE ${own(field)} END`)
  const isComplete = `${incoming.fingerprint} LIKE '1%'`
  const setPart = (field: 'email' | 'firstName' | 'lastName' | 'profile'): string => setByNews(field,
    `CASE WHEN ${own('fingerprint')} = ${incoming.fingerprint} THEN ${own(field)} ` +
    `WHEN ${isComplete} THEN ${incoming[field]} ELSE coalesce(${incoming[field]}, ${own(field)}) END`)
  return [
    setPart('email'), setPart('firstName'), setPart('lastName'), setPart('profile'),
    setByNews('blocked', `CASE WHEN ${isComplete} THEN ${incoming.blocked} ELSE ${own('blocked')} END`),
    setByNews('providerUpdatedAt', incoming.providerUpdatedAt),
    setByNews('fingerprint', incoming.fingerprint),
    setByNews('lastSyncedAt', `coalesce(${incoming.lastSyncedAt}, ${own('lastSyncedAt')})`),
    ...endedSessions === undefined
      ? []
      : [set('revokedSessions', `CASE WHEN ${addsSessions(table, endedSessions)} ` +
        `THEN ${mergedSessions(table, endedSessions)} ELSE ${own('revokedSessions')} END`)]
  ].join(',\n  ')
}

/** SQL for whether an update changes the row called `u`. */
export function isChangeFor (table: UsersTable, incoming: Incoming): string {
  const { endedSessions } = incoming
  const news = isNewsFor(table, incoming)
  if (endedSessions === undefined) return news
  return `${isLiving(table)} AND (${news} OR ${addsSessions(table, endedSessions)})`
}

/** SQL for whether a profile is news for the row called `u`: the rule of isNews(). */
function isNewsFor (table: UsersTable, incoming: Incoming): string {
  const version = `u.${quotedName(table.columns.providerUpdatedAt)}`
  const fingerprint = `coalesce(u.${quotedName(table.columns.fingerprint)}, '')`
  // An update without a profile has no fingerprint: null is not true.
  return `(${isLiving(table)} AND CASE
  WHEN ${incoming.providerUpdatedAt} IS NULL THEN ${version} IS NULL
    AND ${fingerprint} <> ${incoming.fingerprint}
    AND left(${fingerprint}, 1) COLLATE "C" <= left(${incoming.fingerprint}, 1)
  WHEN ${version} IS NULL OR ${version} < ${incoming.providerUpdatedAt} THEN true
  ELSE ${version} = ${incoming.providerUpdatedAt} AND ${fingerprint} COLLATE "C" < ${incoming.fingerprint}
END) IS TRUE`
}

function isLiving ({ columns }: UsersTable): string {
  return `u.${quotedName(columns.deletedAt)} IS NULL`
}

function jsonOf (value: object | null): string | null {
  return value === null ? null : JSON.stringify(value)
}

function instant (ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
