import { quartiles, type Quartiles } from '../measure/quartiles.js'
import { figure, table } from '../measure/table.js'

/**
 * The ways to write changed users, by how many are on their way at once: apply() of 200 users and of one, and prepared
 * upserts of one row by hand, which neither compare nor answer with the row.
 */
export const ways = ['batches10', 'batches', 'singles10', 'singles', 'upserts10', 'upserts'] as const
export type Way = typeof ways[number]

/** Rows per second of each way, side by side. */
export type SyncRound = Readonly<Record<Way, number>>

/** The measurement of changed users, by whether a commit waits for the disk. */
export interface SyncPart {
  readonly synchronousCommit: 'on' | 'off'
  readonly rounds: readonly SyncRound[]
}

/** The measurement of users who are in step already, each given once more. */
export interface UnchangedUsers {
  readonly users: number
  /** Of batches: statements, and records in the write-ahead log. */
  readonly statements: number
  readonly walRecords: number
  /** Of single guarded upserts. */
  readonly singleWalRecords: number
}

/** The figures of a part: rows per second, and how many times as many batches write. */
export interface SyncFigures {
  readonly synchronousCommit: 'on' | 'off'
  readonly rounds: number
  readonly rowsPerSecond: Readonly<Record<Way, number>>
  /** Batches, one at a time, beside single upserts by hand, ten at a time. */
  readonly gain10: Quartiles
  /** The same beside single upserts by hand, one at a time. */
  readonly gain1: Quartiles
  /** Batches beside single upserts by hand, ten at a time both. */
  readonly gain10At10: Quartiles
  /** Batches beside single users by the same code, ten at a time both. */
  readonly ofUsers10: Quartiles
  /** The same one at a time. */
  readonly ofUsers1: Quartiles
}

const goals = { batchGain10: { least: 4 }, batchGain1: { least: 12 }, unchangedWalRecords: { most: 0 } } as const

/** Computes the figures of a part. Noise that the ways of a round share cancels out. */
export function figuresOf ({ synchronousCommit, rounds }: SyncPart): SyncFigures {
  const ratio = (one: Way, other: Way): Quartiles => quartiles(rounds.map(round => round[one] / round[other]))
  const medianOf = (way: Way): number => quartiles(rounds.map(round => round[way])).median
  return {
    synchronousCommit,
    rounds: rounds.length,
    rowsPerSecond: Object.fromEntries(ways.map(way => [way, medianOf(way)])) as Record<Way, number>,
    gain10: ratio('batches', 'upserts10'),
    gain1: ratio('batches', 'upserts'),
    gain10At10: ratio('batches10', 'upserts10'),
    ofUsers10: ratio('batches10', 'singles10'),
    ofUsers1: ratio('batches', 'singles')
  }
}

/** The result as one object. */
export interface SyncResult {
  readonly batchGain10: number
  readonly batchGain1: number
  readonly unchangedWalRecords: number
  readonly unchanged: UnchangedUsers
  readonly parts: readonly SyncFigures[]
}

/** Computes the result; judged is the part whose commits wait for the disk. */
export function resultOf (parts: readonly SyncPart[], unchanged: UnchangedUsers): SyncResult {
  const judged = figuresOf(parts.find(({ synchronousCommit }) => synchronousCommit === 'on')!)
  return {
    batchGain10: judged.gain10.median,
    batchGain1: judged.gain1.median,
    unchangedWalRecords: unchanged.walRecords,
    unchanged,
    parts: parts.map(figuresOf)
  }
}

/** The figures as a table, and whether they meet their goals. */
export function report (parts: readonly SyncPart[], unchanged: UnchangedUsers): string {
  const spread = ({ low, median, high }: Quartiles): string => {
    return `${median.toFixed(1)} (${low.toFixed(1)}–${high.toFixed(1)})`
  }
  const rows = parts.map(figuresOf).map(({ synchronousCommit, rowsPerSecond, ...gains }) => [
    synchronousCommit, ...ways.map(way => figure(rowsPerSecond[way])),
    ...[gains.gain10, gains.gain1, gains.gain10At10, gains.ofUsers10, gains.ofUsers1].map(spread)
  ])
  const result = resultOf(parts, unchanged)
  const judgement = (name: keyof typeof goals): string => {
    const goal: { readonly least?: number, readonly most?: number } = goals[name]
    const isMet = result[name] >= (goal.least ?? -Infinity) && result[name] <= (goal.most ?? Infinity)
    const words = goal.least === undefined ? `at most ${String(goal.most)}` : `at least ${goal.least}`
    return `${name}: ${figure(result[name])}; the goal is ${words}: ${isMet ? 'met' : 'MISSED'}`
  }
  const { users, statements, walRecords, singleWalRecords } = unchanged
  return [
    table([
      [
        'synchronous_commit', 'batches, 10 at once', '1', 'single users, 10 at once', '1', 'upserts by hand, 10 at once',
        '1', 'batches : by hand, 1 : 10', '1 : 1', '10 : 10', 'batches : single users, 10 : 10', '1 : 1'
      ],
      ...rows
    ]),
    '',
    `${figure(users)} users in step, given once more: ${figure(statements)} statements and ${figure(walRecords)} WAL ` +
    `records by batches, ${figure(users)} and ${figure(singleWalRecords)} by single upserts that change nothing`,
    '',
    ...(Object.keys(goals) as Array<keyof typeof goals>).map(judgement)
  ].join('\n')
}
