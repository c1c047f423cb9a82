import type { UsersTable } from '../users-table.js'
import type { ColumnTypes } from './column-types.js'
import { creationsUnderWay } from './creation-lock.js'
import { findTombstones } from './find-tombstones.js'
import { findUsers } from './find-users.js'
import { keepLetters } from './keep-letters.js'
import { deleteMarked, markDeleted } from './mark-deleted.js'
import type { Statement } from './statement.js'
import { touchUsers } from './touch-users.js'
import { updateUsers } from './update-users.js'
import { upsertUsers } from './upsert-users.js'

/** The statements of a users table, by what they do. Those that end in "Ending" end sessions as well. */
export type StoreStatements = Readonly<Record<
  'find' | 'update' | 'updateEnding' | 'create' | 'createBlanks' | 'createEnding' | 'markDeleted' |
  'creationsUnderWay' | 'deleteMarked' | 'findTombstones' | 'keep' | 'touch' | 'ping',
  Statement
>>

/** The statements for a table whose columns have these types. */
export function storeStatements (table: UsersTable, types: ColumnTypes, isPartitioned = false): StoreStatements {
  const find = findUsers(table, types)
  const inTransaction = (sent: Statement): Statement => ({ ...sent, transaction: 'plain' })
  const create = (hasBlanks: boolean, endsSessions: boolean): Statement => {
    return { ...upsertUsers(table, types, { hasBlanks, endsSessions, isPartitioned }), transaction: 'creation' }
  }
  return {
    find,
    update: inTransaction(updateUsers(table, types, { endsSessions: false })),
    updateEnding: inTransaction(updateUsers(table, types, { endsSessions: true })),
    create: create(false, false),
    createBlanks: create(true, false),
    createEnding: create(true, true),
    markDeleted: inTransaction(markDeleted(table, types)),
    creationsUnderWay: creationsUnderWay(table),
    deleteMarked: inTransaction(deleteMarked(table)),
    findTombstones: findTombstones(table),
    keep: inTransaction(keepLetters(table)),
    touch: touchUsers(table),
    // The same as find, but not counted.
    ping: { ...find }
  }
}
