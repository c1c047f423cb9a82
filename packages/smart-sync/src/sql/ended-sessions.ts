import { quotedName } from '@orientor/session-contract/core'
import type { UsersTable } from '../users-table.js'
import type { UserUpdate } from '../user-update.js'

/**
 * The values of a statement for the sessions that are over: a list of JSON as text, one for each update and null for
 * none, where the statement takes one.
 */
export function endedValues (updates: readonly UserUpdate[], endsSessions: boolean): unknown[] {
  if (!endsSessions) return []
  return [updates.map(({ endedSessions }) => endedSessions === null ? null : JSON.stringify(endedSessions))]
}

/**
 * SQL for whether the row called `u` lacks some of the sessions of `ended`, or has one for a shorter time. What a hand
 * wrote into the column, other than a number of milliseconds, stays as it is.
 *
 * @param ended - SQL for a jsonb: an object, or null
 */
export function addsSessions (table: UsersTable, ended: string): string {
  const stored = revokedSessions(table)
  return `EXISTS (
  SELECT FROM jsonb_each(${ended}) AS e
  WHERE NOT coalesce(${stored} ? e.key, false) OR CASE jsonb_typeof(${stored} -> e.key)
    WHEN 'number' THEN (${stored} -> e.key)::numeric < e.value::numeric ELSE false END
)`
}

/** The most sessions that a row remembers: of more, those whose tokens live longest. */
export const maxSessions = 1000

/**
 * SQL for what the row called `u` has of sessions and those of `ended`, each until the later of its instants, without
 * those whose tokens have all expired.
 */
export function mergedSessions (table: UsersTable, ended: string): string {
  const stored = revokedSessions(table)
  const storedAs = (type: string, empty: string): string => {
    return `CASE jsonb_typeof(${stored}) WHEN '${type}' THEN ${stored} ELSE '${empty}' END`
  }
  // Of what a hand wrote the end is not known: it stays, also as a plain list.
  return `(
  SELECT coalesce(jsonb_object_agg(s.key, s.value), '{}') FROM (
    SELECT l.key, l.value FROM (
    SELECT DISTINCT ON (a.key) a.key, a.value, a.until FROM (
      SELECT k.key, k.value, CASE jsonb_typeof(k.value) WHEN 'number' THEN k.value::numeric END AS until
      FROM jsonb_each(${storedAs('object', '{}')}) AS k
      UNION ALL
      SELECT l.key, 'null', NULL FROM jsonb_array_elements_text(${storedAs('array', '[]')}) AS l(key)
      UNION ALL
      SELECT e.key, e.value, e.value::numeric FROM jsonb_each(${ended}) AS e
    ) AS a
    WHERE a.key IS NOT NULL AND (a.until IS NULL OR a.until > extract(epoch FROM now()) * 1000)
    ORDER BY a.key, a.until DESC NULLS FIRST
    ) AS l
    ORDER BY l.until DESC NULLS FIRST, l.key COLLATE "C" DESC LIMIT ${maxSessions}
  ) AS s
)`
}

function revokedSessions ({ columns }: UsersTable): string {
  return `u.${quotedName(columns.revokedSessions)}`
}
