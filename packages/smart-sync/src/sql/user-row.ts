import { quotedName, sessionKey, type WatchedTable } from '@orientor/session-contract/core'
import { bareTable, schemaOf } from '../table-names.js'
import type { StoredUser } from '../user-store.js'
import { readColumns, type UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { revisionTriggerName } from './revision-trigger.js'

/** Numbers that JavaScript cannot hold exactly: of the app's own columns they stay text. */
const inexact: ReadonlySet<string | undefined> = new Set(['bigint', 'numeric'])

/** What every statement that answers with users selects, of the row called `u`. Instants leave as milliseconds. */
export function userColumns (table: UsersTable, types: ColumnTypes): string {
  const { subject, issuer, columns, extra } = table
  const of = (name: string): string => `u.${quotedName(name)}`
  const instant = (name: string): string => `floor(extract(epoch FROM ${of(name)}) * 1000)`
  const selected: ReadonlyArray<readonly [expression: string, field: string]> = [
    [of(columns.userId), 'userId'],
    ...(typeof issuer === 'string' ? [[of(issuer), 'issuer'] as const] : []),
    [of(subject), 'subject'],
    [of(columns.email), 'email'],
    [of(columns.firstName), 'firstName'],
    [of(columns.lastName), 'lastName'],
    [of(columns.profile), 'profile'],
    [`${of(columns.isActive)} IS NOT FALSE`, 'isActive'],
    [of(columns.blocked), 'blocked'],
    [`${of(columns.onboardingCompleted)} IS TRUE`, 'onboardingCompleted'],
    [instant(columns.lastSyncedAt), 'lastSyncedAt'],
    [instant(columns.providerUpdatedAt), 'providerUpdatedAt'],
    [of(columns.fingerprint), 'fingerprint'],
    [instant(columns.tokensValidFrom), 'tokensValidFrom'],
    [of(columns.revokedSessions), 'revokedSessions'],
    [`${of(columns.deletedAt)} IS NOT NULL`, 'deleted'],
    [of(columns.revision), 'revision'],
    ...extra.map((name, place) => [exactJson(of(name), types.get(name)), extraField(place)] as const)
  ]
  // As text, so that it is the same where the app has results come in binary (`pg.defaults`).
  return selected.map(([expression, field]) => `(${expression})::text AS "${field}"`).join(', ')
}

/**
 * SQL for a column of the app's own as JSON; numbers that JavaScript cannot hold exactly as text. What the column is is asked of the row, since its type may change while the statement
 * stays; what is below a domain only the catalogue tells.
 */
function exactJson (column: string, type: string | undefined): string {
  if (inexact.has(type)) return `to_json(${column}::text)`
  return `CASE WHEN pg_typeof(${column}) IN (${[...inexact].map(name => `'${name}'::regtype`).join(', ')}) THEN to_json(${column}::text) ELSE to_json(${column}) END`
}

/** What of the users table a load reads, but for the time of the last sync, which changes no user. */
export function watchedUsers (table: UsersTable): WatchedTable {
  const { tables: { users }, issuer, subject, columns: { revision }, harmlessTriggers } = table
  const schema = schemaOf(users)
  return Object.freeze({
    ...(schema === undefined ? {} : { schema }),
    table: bareTable(users),
    issuer,
    subject,
    revision,
    columns: Object.freeze(readColumns(table).filter(column => column !== subject && column !== issuer)),
    // The first counts the revision, and changes nothing else.
    harmlessTriggers: Object.freeze([revisionTriggerName(table), ...harmlessTriggers])
  })
}

/** A row as the server sends it: text, or null. */
export type UserRow = Readonly<Record<string, string | null>>

/** Reads a row selected as userColumns(). */
export function userOfRow (row: UserRow, { issuer: from, extra }: UsersTable): StoredUser {
  const issuer = typeof from === 'string' ? row['issuer'] ?? '' : from.always
  const subject = row['subject'] ?? ''
  return {
    key: sessionKey(issuer, subject),
    issuer,
    subject,
    userId: row['userId'] ?? '',
    email: row['email'] ?? null,
    firstName: row['firstName'] ?? null,
    lastName: row['lastName'] ?? null,
    profile: objectOf(row['profile']),
    isActive: row['isActive'] === 'true',
    blocked: row['blocked'] === 'true',
    onboardingCompleted: row['onboardingCompleted'] === 'true',
    lastSyncedAtMs: instantOf(row['lastSyncedAt']),
    providerUpdatedAtMs: instantOf(row['providerUpdatedAt']),
    version: instantOf(row['providerUpdatedAt']),
    fingerprint: row['fingerprint'] ?? null,
    // 'infinity' revokes every token there will ever be.
    tokensValidFromMs: Math.min(Math.max(Number(row['tokensValidFrom'] ?? 0), 0), Number.MAX_SAFE_INTEGER),
    revokedSessions: sessionsOf(row['revokedSessions']),
    deleted: row['deleted'] === 'true',
    revision: revisionOf(row['revision']),
    extra: Object.fromEntries(extra.map((name, place) => [name, valueOf(row[extraField(place)])]))
  }
}

/** The name of a column of the app's own in the answer. */
function extraField (place: number): string {
  return `extra_${place}`
}

/** 0, which is no revision, where there is none that is exact: any announcement then counts as news. */
function revisionOf (text: string | null | undefined): number {
  const revision = Number(text ?? 0)
  return Number.isSafeInteger(revision) && revision > 0 ? revision : 0
}

function instantOf (text: string | null | undefined): number | null {
  const ms = Number(text ?? NaN)
  return Number.isFinite(ms) ? ms : null
}

/** Session ids by their expiry; a plain list, as a hand may write it, counts as well. */
function sessionsOf (json: string | null | undefined): readonly string[] {
  const value = valueOf(json)
  return Array.isArray(value) ? value.map(String) : Object.keys(value ?? {})
}

function objectOf (json: string | null | undefined): Record<string, unknown> | null {
  const value = valueOf(json)
  return typeof value === 'object' && !Array.isArray(value) ? value as Record<string, unknown> | null : null
}

function valueOf (json: string | null | undefined): unknown {
  return JSON.parse(json ?? 'null')
}
