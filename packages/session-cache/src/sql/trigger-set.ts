import { createHash } from 'node:crypto'
import { quotedName, type WatchedTable } from '@orientor/session-contract/core'
import { announcingBody } from './announcing-body.js'

/** What announces the changes of one table. */
export interface TableTriggers {
  /** The table, quoted. */
  readonly table: string
  /** Its schema; null: found by the search path. */
  readonly schema: string | null
  /** Its name alone. */
  readonly bareName: string
  /** Name of the function and, followed by the suffix of each announcer, of the triggers. */
  readonly name: string
  /** Body of the function. */
  readonly body: string
  /** The columns whose changes are announced. */
  readonly columns: readonly string[]
  /** All columns that announcements are made of: those, and the revision. */
  readonly needed: readonly string[]
  /** Those of which an update has to set one to call the row trigger, where nothing else may change them; empty: every update calls it. */
  readonly columnList: readonly string[]
  /** Triggers BEFORE UPDATE FOR EACH ROW, of the table and of what is read with it, that change none of these columns unless the update sets it. */
  readonly harmless: readonly string[]
}

/** What announces the changes of all watched tables. */
export interface TriggerSet {
  /**
   * Twelve hexadecimal digits over all that matters. Two versions of a service that want different announcements have different ids, and their
   * triggers live side by side.
   */
  readonly id: string
  readonly tables: readonly TableTriggers[]
}

/** How the catalogue describes the events of a trigger (`pg_trigger.tgtype`, a set of bits). */
export const triggerType = { row: 1, before: 2, insert: 4, delete: 8, update: 16, truncate: 32 } as const

/** The triggers that each table gets. */
export const announcers: Readonly<Record<'row' | 'truncate', { readonly suffix: string, readonly type: number }>> = {
  row: { suffix: '_row', type: triggerType.row | triggerType.insert | triggerType.delete | triggerType.update },
  truncate: { suffix: '_truncate', type: triggerType.truncate }
}

/** The columns whose changes are announced, each once: those of the key, and those that the source names. */
function watchedColumns ({ subject, issuer, columns }: WatchedTable): readonly string[] {
  return [...new Set([subject, ...(typeof issuer === 'string' ? [issuer] : []), ...columns])]
}

/** What has to announce the changes of these tables on a channel; with `columnLists`, not called by updates that set nothing of what is watched. */
export function triggersFor (watches: readonly WatchedTable[], channel: string, columnLists: boolean): TriggerSet {
  const parts = watches.map(watch => {
    const columns = watchedColumns(watch)
    return {
      table: (watch.schema === undefined ? [watch.table] : [watch.schema, watch.table]).map(quotedName).join('.'),
      schema: watch.schema ?? null,
      bareName: watch.table,
      body: announcingBody(watch, columns, channel),
      columns,
      columnList: columnLists ? columns : [],
      harmless: watch.harmlessTriggers ?? []
    }
  })
  const id = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12)
  const tables = parts.map((part, index) => {
    const { revision } = watches[index]!
    return { ...part, needed: [...part.columns, ...(revision === null ? [] : [revision])], name: `orientor_${id}_${index}` }
  })
  return { id, tables }
}
