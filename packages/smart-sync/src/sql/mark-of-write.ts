import { readMarkSql } from '@orientor/session-contract/core'
import { quotedTable } from '../table-names.js'
import type { UsersTable } from '../users-table.js'

/**
 * SQL that begins a statement that writes users and answers with its read mark. The mark is computed before the first
 * row is written or locked, which gives the transaction an id: so it tells whether the transaction had one before, as
 * one has that was left over.
 */
export function withMark ({ tables }: UsersTable): string {
  return `WITH ${markTaken} AS MATERIALIZED (SELECT ${readMarkSql(quotedTable(tables.users))} AS mark)`
}

/** SQL for the FROM below which rows are found that are written or locked: none comes before the mark. */
export const markTaken = 'orientor_mark'

/** SQL for the mark in RETURNING. */
export const markGiven: string = `(SELECT ${markTaken}.mark FROM ${markTaken})`
