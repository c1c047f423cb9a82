import { createHash } from 'node:crypto'
import { quotedName, type WatchedTable } from '@orientor/session-contract/core'
import { notingBody } from './noting-body.js'
import { schemaToken, outboxPrefix } from './outbox-names.js'

/** The triggers that note the changes of one table in the outbox, and the function that they call. */
export interface TableTriggers {
  /** The table, quoted. */
  readonly table: string
  /** Its schema; null: found by the search path. */
  readonly schema: string | null
  /** Its name alone. */
  readonly bareName: string
  /** Name of the function and, followed by the suffix of each trigger, of the triggers. */
  readonly name: string
  /** Body of the function, before the schema of the outbox is known. */
  readonly body: string
  /** The columns whose changes are noted. */
  readonly columns: readonly string[]
  /** All columns that notes are made of: those, and the revision. */
  readonly needed: readonly string[]
  /**
   * Those of which an update has to set one to call the row trigger, where nothing else may change them; empty: every
   * update calls it.
   */
  readonly columnList: readonly string[]
  /**
   * Triggers BEFORE UPDATE FOR EACH ROW, of the table and of what is read with it, that change none of these columns
   * unless the update sets it.
   */
  readonly harmless: readonly string[]
}

/** The bits by which the catalogue describes the events of a trigger (`pg_trigger.tgtype`). */
export const triggerType = { row: 1, before: 2, insert: 4, delete: 8, update: 16, truncate: 32 } as const

interface NotingTrigger {
  readonly suffix: string
  /** Its events, as the catalogue describes them. */
  readonly type: number
}

/** The triggers that each table gets. */
export const notingTriggers: Readonly<Record<'row' | 'truncate', NotingTrigger>> = {
  row: { suffix: '_row', type: triggerType.row | triggerType.insert | triggerType.delete | triggerType.update },
  truncate: { suffix: '_truncate', type: triggerType.truncate }
}

/** The columns whose changes are noted, each once: those of the key, and those that the source names. */
function watchedColumns ({ subject, issuer, columns }: WatchedTable): readonly string[] {
  return [...new Set([subject, ...(typeof issuer === 'string' ? [issuer] : []), ...columns])]
}

/**
 * The triggers that have to note the changes of tables; with `columnLists`, not called by updates that set nothing of
 * what is watched.
 *
 * Each is named after a digest of all that matters of it. Two versions of a service that want different notes have
 * their triggers side by side, and two that want the same share them.
 */
export function triggersFor (watches: readonly WatchedTable[], columnLists: boolean): readonly TableTriggers[] {
  return watches.map(watch => {
    const columns = watchedColumns(watch)
    const part = {
      table: (watch.schema === undefined ? [watch.table] : [watch.schema, watch.table]).map(quotedName).join('.'),
      schema: watch.schema ?? null,
      bareName: watch.table,
      body: notingBody(watch, columns, schemaToken),
      columns,
      columnList: columnLists ? columns : [],
      harmless: watch.harmlessTriggers ?? []
    }
    const id = createHash('sha256').update(JSON.stringify(part)).digest('hex').slice(0, 12)
    const { revision } = watch
    return { ...part, needed: [...columns, ...(revision === null ? [] : [revision])], name: `${outboxPrefix}${id}` }
  })
}
