import type { SentStatement } from '../measure/statement-count.js'

/** The number of statements of each kind. */
export interface SentKinds {
  /** BEGIN and COMMIT. */
  readonly brackets: number
  /** The statements of the bus: polls, and what goes with them. */
  readonly bus: number
  /** Reads of users. */
  readonly reads: number
  /** The creation lock, taken before each write that makes rows. */
  readonly locks: number
  /** Writes of users. */
  readonly writes: number
  /** Whatever else was sent to the database. */
  readonly others: number
}

/** The statements that count: all but BEGIN, COMMIT and those of the bus. */
export function countedOf ({ reads, locks, writes, others }: SentKinds): number {
  return reads + locks + writes + others
}

/** Sorts statements by what they do. */
export function kindsOf (statements: readonly SentStatement[]): SentKinds {
  const kinds: Record<keyof SentKinds, number> = { brackets: 0, bus: 0, reads: 0, locks: 0, writes: 0, others: 0 }
  for (const { text, calls } of statements) kinds[kindOf(text)] += calls
  return kinds
}

function kindOf (text: string): keyof SentKinds {
  if (/^(?:BEGIN|COMMIT)\b/.test(text)) return 'brackets'
  if (text.includes('orientor_outbox_')) return 'bus'
  if (text.includes('pg_advisory_xact_lock_shared')) return 'locks'
  if (/\b(?:INSERT INTO|UPDATE)\b/.test(text)) return 'writes'
  return /^SELECT\b[^]*\busers\b/.test(text) ? 'reads' : 'others'
}
