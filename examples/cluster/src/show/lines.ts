import { violationsOf, type CoherenceReport } from '../checker/index.js'
import type { InstanceRow } from './instance-row.js'

const columns = ['instance', 'database', 'version', 'age', 'mark', 'bus', 'last change', 'median', 'marked so far'] as const
const milliseconds = (value: number | null): string => value === null ? '–' : `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString('en')} ms`

function cellsOf ({ name, cut, version, ageMs, marked, trusted, status, propagationMs, medianMs, markedAnswers }: InstanceRow): readonly string[] {
  return [
    name,
    cut ? 'cut off' : 'reached',
    version === null ? `HTTP ${status ?? '–'}` : String(version),
    milliseconds(ageMs),
    marked ? 'stale' : '',
    trusted ? 'trusted' : 'not trusted',
    milliseconds(propagationMs),
    milliseconds(medianMs),
    markedAnswers.toLocaleString('en')
  ]
}

/** The instances as a table. */
export function tableOf (rows: readonly InstanceRow[]): string {
  const cells = [columns as readonly string[], ...rows.map(cellsOf)]
  const widths = columns.map((_, column) => Math.max(...cells.map(row => row[column]!.length)))
  return cells.map(row => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd()).join('\n')
}

/** One instance in a line, for where nothing can be drawn over. */
export function lineOf (row: InstanceRow): string {
  const [name, database, version, age, mark, bus, propagation] = cellsOf(row)
  return `${name}: version ${version}, ${age} old, ${mark === '' ? 'unmarked' : `marked ${mark}`}, bus ${bus}, database ${database}, last change after ${propagation}`
}

/** What everything came to so far. */
export function verdictOf (report: CoherenceReport, maxStalenessMs: number): string {
  const broken = violationsOf(report)
  return `${report.reads.toLocaleString('en')} reads; oldest unmarked user ${Math.round(report.oldestUnmarkedMs).toLocaleString('en')} ms, the bound is ${maxStalenessMs.toLocaleString('en')} ms: ${broken === 0 ? 'held' : `BROKEN ${broken} times`}`
}
