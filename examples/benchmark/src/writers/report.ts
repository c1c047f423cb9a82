import { quartiles, type Quartiles } from '../measure/quartiles.js'
import { figure, table } from '../measure/table.js'

/** The loads that take turns, by the table that they write to and whether the column is watched. */
export const contenders = ['plain', 'outbox', 'notify', 'plainUnwatched', 'outboxUnwatched'] as const
export type Contender = typeof contenders[number]

/** Commits per second of each, side by side. */
export type Round = Readonly<Record<Contender, number>>

/** The measurement of one number of writers, by whether they wait for the disk. */
export interface WritersPart {
  readonly synchronousCommit: 'on' | 'off'
  readonly writers: number
  readonly rounds: readonly Round[]
}

/** The figures of a part: commits per second, and the ratios of neighbours. */
export interface WritersFigures {
  readonly perSecond: Readonly<Record<Contender, number>>
  /** Watched updates beside an outbox, of those of a table without triggers. */
  readonly watchedShare: Quartiles
  /** The same, of those of a table with the trigger that notifies, and three listeners. */
  readonly timesNotify: Quartiles
  /** Updates of columns that nothing watches. */
  readonly unwatchedShare: Quartiles
}

const goals = { watchedShare16: 0.7, timesNotify16: 3, unwatchedShare: 0.97 } as const

/** Computes the figures of a part. Noise that the loads of a round share cancels out. */
export function figuresOf ({ rounds }: WritersPart): WritersFigures {
  const ratio = (one: Contender, other: Contender): Quartiles => {
    return quartiles(rounds.map(round => round[one] / round[other]))
  }
  const medianOf = (name: Contender): number => quartiles(rounds.map(round => round[name])).median
  const perSecond = Object.fromEntries(contenders.map(name => [name, medianOf(name)]))
  return {
    perSecond: perSecond as Record<Contender, number>,
    watchedShare: ratio('outbox', 'plain'),
    timesNotify: ratio('outbox', 'notify'),
    unwatchedShare: ratio('outboxUnwatched', 'plainUnwatched')
  }
}

/** The part that is judged: 16 writers that wait for the disk. */
export function isJudged ({ synchronousCommit, writers }: Pick<WritersPart, 'synchronousCommit' | 'writers'>): boolean {
  return synchronousCommit === 'on' && writers === 16
}

/** The figures as one object. */
export function resultOf (
  parts: readonly WritersPart[]
): Readonly<Record<keyof typeof goals, number>> & { readonly parts: readonly object[] } {
  const judged = figuresOf(parts.find(isJudged)!)
  return {
    watchedShare16: judged.watchedShare.median,
    timesNotify16: judged.timesNotify.median,
    unwatchedShare: judged.unwatchedShare.median,
    parts: parts.map(part => ({ ...part, rounds: part.rounds.length, ...figuresOf(part) }))
  }
}

/** The figures as a table, and whether they meet their goals. */
export function report (parts: readonly WritersPart[]): string {
  const spread = ({ low, median, high }: Quartiles): string => {
    return `${median.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`
  }
  const rows = parts.map(part => {
    const { perSecond, watchedShare, timesNotify, unwatchedShare } = figuresOf(part)
    return [
      `${part.synchronousCommit}, ${part.writers}`,
      ...(['plain', 'outbox', 'notify'] as const).map(name => figure(perSecond[name])),
      spread(watchedShare), spread(timesNotify), spread(unwatchedShare)
    ]
  })
  const result = resultOf(parts)
  const judgement = (name: keyof typeof goals): string => {
    const verdict = result[name] >= goals[name] ? 'met' : 'MISSED'
    return `${name}: ${result[name].toFixed(3)}; the goal is at least ${goals[name]}: ${verdict}`
  }
  const ratios = ['outbox / no trigger', 'outbox / NOTIFY', 'unwatched']
  return `${table([
    ['synchronous_commit, writers', 'no trigger', 'outbox', 'NOTIFY', ...ratios], ...rows
  ])}\n\n${(Object.keys(goals) as Array<keyof typeof goals>).map(judgement).join('\n')}`
}
