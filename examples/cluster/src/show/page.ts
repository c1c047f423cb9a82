import type { CoherenceReport } from '../checker/index.js'
import type { InstanceRow } from './instance-row.js'
import { tableOf, verdictOf } from './lines.js'

/** The content of a page. */
export interface PageContent {
  readonly rows: readonly InstanceRow[]
  readonly report: CoherenceReport
  /** The newest version that was committed. */
  readonly newest: number
  readonly maxStalenessMs: number
}

/** The page that is drawn on a terminal; no line is wider than 80 columns. */
export function pageOf ({ rows, report, newest, maxStalenessMs }: PageContent): string {
  return [
    'Three instances on one database. Every second a user is changed with plain SQL;',
    `version ${newest} is the newest.`,
    '',
    tableOf(rows),
    '',
    verdictOf(report, maxStalenessMs),
    '',
    '1, 2, 3: cut an instance off from the database, or heal it    q: quit',
    ''
  ].join('\n')
}
