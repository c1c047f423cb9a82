import {
  extraField, extraOfRow, extraSql, instantMsOfText, instantMsSql, jsonOfText, objectOfText, quotedName, revisionOfText,
  sessionKey, tokensValidFromMsOfText, type TextRow, type WatchedTable
} from '@orientor/session-contract/core'
import { bareTable, schemaOf } from '../table-names.js'
import type { StoredUser } from '../user-store.js'
import { readColumns, type UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { revisionTriggerName } from './revision-trigger.js'

/**
 * SQL for the list that every statement that answers with users selects, of the row called `u`.
 *
 * @param mark - SQL for the read mark of the statement
 */
export function userColumns (table: UsersTable, types: ColumnTypes, mark: string): string {
  const { subject, issuer, columns, extra } = table
  const of = (name: string): string => `u.${quotedName(name)}`
  const instant = (name: string): string => instantMsSql(of(name))
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
    [mark, 'readMark'],
    ...extra.map((name, place) => [extraSql(of(name), types.get(name)?.typeName), extraField(place)] as const)
  ]
  // As text, so that it is the same where the app has results come in binary (`pg.defaults`).
  return selected.map(([expression, field]) => `(${expression})::text AS "${field}"`).join(', ')
}

/** The users table, and the columns that a load reads of it, as a bus watches them. */
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
    exactRevision: true,
    // The first counts the revision, and changes nothing else.
    harmlessTriggers: Object.freeze([revisionTriggerName(table), ...harmlessTriggers])
  })
}

/** The user in a row that was selected as userColumns(). */
export function userOfRow (row: TextRow, { issuer: from, extra }: UsersTable): StoredUser {
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
    profile: objectOfText(row['profile']),
    isActive: row['isActive'] === 'true',
    blocked: row['blocked'] === 'true',
    onboardingCompleted: row['onboardingCompleted'] === 'true',
    lastSyncedAtMs: instantMsOfText(row['lastSyncedAt']),
    providerUpdatedAtMs: instantMsOfText(row['providerUpdatedAt']),
    version: instantMsOfText(row['providerUpdatedAt']),
    fingerprint: row['fingerprint'] ?? null,
    tokensValidFromMs: tokensValidFromMsOfText(row['tokensValidFrom']),
    revokedSessions: sessionsOf(row['revokedSessions']),
    deleted: row['deleted'] === 'true',
    revision: revisionOfText(row['revision']),
    extra: { ...extraOfRow(row, extra) },
    ...(typeof row['readMark'] === 'string' ? { readMark: row['readMark'] } : {})
  }
}

/** Session ids by their expiry; a plain list, as a hand may write it, counts as well. */
function sessionsOf (json: string | null | undefined): readonly string[] {
  const value = jsonOfText(json)
  return Array.isArray(value) ? value.map(String) : Object.keys(value ?? {})
}
