import { invalidOption, type PoolLike, type WatchedTable } from '@orientor/session-contract/core'
import { watchedTables } from '../coherence/watched-tables.js'
import { installSql } from './install-outbox.js'
import { aloneSql, inTransaction } from './locked-transaction.js'
import { triggersFor, type TableTriggers } from './noting-triggers.js'
import { owner, resolveBusOptions } from './postgres-bus-options.js'
import { uninstallSql } from './uninstall-outbox.js'

/** Options of the SQL for an outbox; to be the same as those of the bus. */
export interface OutboxSqlOptions {
  /** The schema of the outbox. Default is that of the first watched table. */
  readonly schema?: string
  /** Whether updates that set no watched column are spared the trigger (`UPDATE OF`). Default is true. */
  readonly columnLists?: boolean
}

/**
 * SQL that puts the outbox and its triggers in place, for an operator: idempotent, one transaction. To be given the
 * same options as the bus.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION when a table is not described as it has to be
 */
export function outboxSql (watches: readonly WatchedTable[], options: OutboxSqlOptions = {}): string {
  const { schema, columnLists } = resolveBusOptions(options)
  return inTransaction(installSql(checkedTriggers(watches, columnLists), schema, 500))
}

/**
 * SQL that takes the outbox away with everything that belongs to it, for an operator: idempotent, one transaction.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION when a table is not described as it has to be
 */
export function uninstallOutboxSql (
  watches: readonly WatchedTable[], options: Pick<OutboxSqlOptions, 'schema'> = {}
): string {
  const { schema } = resolveBusOptions(options)
  return inTransaction(uninstallSql(checkedTriggers(watches, true), schema))
}

/**
 * Takes the outbox away with everything that belongs to it; see uninstallOutboxSql(). Rejects as the pool does.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION when a table is not described as it has to be
 */
export async function uninstallOutbox (
  pool: PoolLike, watches: readonly WatchedTable[], options: Pick<OutboxSqlOptions, 'schema'> = {}
): Promise<void> {
  const { schema } = resolveBusOptions(options)
  await pool.query({ text: aloneSql(uninstallSql(checkedTriggers(watches, true), schema)) })
}

/**
 * The triggers that watched tables need, once it is sure that the tables are described as they have to be.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION when one is not, or there is none
 */
export function checkedTriggers (watches: readonly WatchedTable[], columnLists: boolean): readonly TableTriggers[] {
  if (watchedTables.accept(watches) === undefined || watches.length === 0) {
    throw invalidOption(owner, `what the source watches must be ${watchedTables.must}, at least one.`)
  }
  return triggersFor(watches, columnLists)
}
