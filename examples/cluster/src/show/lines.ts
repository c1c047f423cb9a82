import { violationsOf, type CoherenceReport } from '../checker/index.js'
import type { InstanceRow } from './instance-row.js'

const columns = ['instance', 'database', 'version', 'age', 'mark', 'bus', 'last change', 'median'] as const
const tenSecondsMs = 10_000

function cellsOf ({ name, cut, version, ageMs, marked, trusted, status, propagationMs, medianMs }: InstanceRow): readonly string[] {
  return [
    name,
    cut ? 'cut off' : 'reached',
    version === null ? `HTTP ${status ?? '–'}` : String(version),
    duration(ageMs),
    marked ? 'stale' : '',
    trusted ? 'trusted' : 'untrusted',
    duration(propagationMs),
    duration(medianMs)
  ]
}

/** The instances as a table. */
export function tableOf (rows: readonly InstanceRow[]): string {
  const cells = [columns as readonly string[], ...rows.map(cellsOf)]
  const widths = columns.map((_, column) => Math.max(...cells.map(row => row[column]!.length)))
  return cells.map(row => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd()).join('\n')
}

/** The line with the totals so far. The bound is judged once there was an unmarked user to hold against it. */
export function verdictOf (report: CoherenceReport, maxStalenessMs: number): string {
  const { reads, marked, oldestUnmarkedMs } = report
  const withoutUser = Object.values(report.failed).reduce((sum, count) => sum + count, 0)
  const broken = violationsOf(report)
  const isJudged = broken > 0 || reads > marked + withoutUser
  return [
    `${whole(reads)} reads: ${whole(marked)} marked stale, ${whole(withoutUser)} without a user`,
    isJudged
      ? `oldest unmarked user ${duration(oldestUnmarkedMs)}; the bound is ${whole(maxStalenessMs)} ms: ${broken === 0 ? 'held' : `BROKEN ${whole(broken)} times`}`
      : `no unmarked user so far; the bound is ${whole(maxStalenessMs)} ms`
  ].join('\n')
}

function duration (ms: number | null): string {
  if (ms === null) return '–'
  if (ms < 10) return `${ms.toFixed(1)} ms`
  return Math.round(ms) < tenSecondsMs ? `${whole(ms)} ms` : `${whole(ms / 1000)} s`
}

function whole (value: number): string {
  return Math.round(value).toLocaleString('en')
}
