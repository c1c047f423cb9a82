import type { TableTriggers } from './noting-triggers.js'
import type { TableFacts } from '../table/table-facts.js'

/** Columns that every table has, and its catalogue of columns does not list. */
const systemColumns: readonly string[] = ['tableoid', 'cmax', 'xmax', 'cmin', 'xmin', 'ctid']

/**
 * The sentence that names watched columns that their table does not have, and the columns that it has; null when none
 * is missing. A table that does not exist is missing nothing: it may be made later.
 */
export function missingColumns (tables: readonly TableTriggers[], found: readonly TableFacts[]): string | null {
  for (const { place, columns } of found) {
    const { table, needed } = tables[place]!
    const there = columns.map(({ name }) => name)
    const missing = needed.filter(name => !there.includes(name) && !systemColumns.includes(name))
    if (missing.length === 0) continue
    const names = missing.map(name => JSON.stringify(name)).join(', ')
    return `The table ${table} has no column ${names}. Its columns are ${there.join(', ')}`
  }
  return null
}
