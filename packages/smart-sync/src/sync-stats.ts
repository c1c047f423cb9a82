import type { Instrument } from '@orientor/session-contract/core'

const skipReasons = ['current', 'not_due', 'confirmed', 'converged', 'outdated', 'unknown', 'deleted'] as const
const errorReasons = ['provider', 'future_version', 'refused', 'unreadable', 'database', 'defect'] as const

/**
 * The reason why nothing was written: the stored row is `current`; the provider said nothing new and its turn has not
 * come (`not_due`); it was asked, or told, and `confirmed` the row; another instance wrote the same first
 * (`converged`); the row has a later change than what was observed (`outdated`); the provider, or the app, does not
 * know the user (`unknown`); the user was `deleted`.
 */
export type SkipReason = typeof skipReasons[number]

/**
 * The cause of an error: the `provider` could not be asked; it dates the user in the future (`future_version`); the
 * user's data was `refused` by the table; what was received is `unreadable`; the `database` was not to be had; a
 * `defect`.
 */
export type ErrorReason = typeof errorReasons[number]

/**
 * Counts since the start, one attempt per user and load, or user and apply(): attempts = performed + skipped + errors.
 */
export interface SyncStatsSnapshot {
  readonly attempts: number
  /** Users written, deletions among them. */
  readonly performed: number
  readonly skipped: number
  readonly errors: number
  /**
   * First profiles: rows made. Not an outcome of its own: the attempt that made one counts as performed, or as the
   * error it was made under.
   */
  readonly profileCreates: number
  /** Users stored without their e-mail address, because another row of the app's own unique column has it. */
  readonly emailCollisions: number
  /** Dead letters kept, those among them that were kept before. */
  readonly deadLetters: number
  readonly skips: Readonly<Record<SkipReason, number>>
  readonly errorsByReason: Readonly<Record<ErrorReason, number>>
}

/** Counts of the outcomes of syncs. */
export class SyncStats {
  #performed = 0
  #profileCreates = 0
  #emailCollisions = 0
  #deadLetters = 0
  readonly #skips: Record<SkipReason, number> = {
    current: 0, not_due: 0, confirmed: 0, converged: 0, outdated: 0, unknown: 0, deleted: 0
  }

  readonly #errors: Record<ErrorReason, number> = {
    provider: 0, future_version: 0, refused: 0, unreadable: 0, database: 0, defect: 0
  }

  performed (): void { this.#performed++ }
  created (): void { this.#profileCreates++ }
  skipped (reason: SkipReason, times: number = 1): void { this.#skips[reason] += times }
  failed (reason: ErrorReason, times: number = 1): void { this.#errors[reason] += times }
  collided (times: number): void { this.#emailCollisions += times }
  deadLettered (times: number): void { this.#deadLetters += times }

  /** The counts now, frozen. */
  snapshot (): SyncStatsSnapshot {
    const skipped = total(this.#skips)
    const failed = total(this.#errors)
    return Object.freeze({
      attempts: this.#performed + skipped + failed,
      performed: this.#performed,
      skipped,
      errors: failed,
      profileCreates: this.#profileCreates,
      emailCollisions: this.#emailCollisions,
      deadLetters: this.#deadLetters,
      skips: Object.freeze({ ...this.#skips }),
      errorsByReason: Object.freeze({ ...this.#errors })
    })
  }

  /** The same counts, flat: `skips.current`, `errors.provider`, and so on. */
  flat (): Readonly<Record<string, number>> {
    const { skips, errorsByReason, ...counts } = this.snapshot()
    return Object.freeze({
      ...counts,
      ...Object.fromEntries(skipReasons.map(reason => [`skips.${reason}`, skips[reason]])),
      ...Object.fromEntries(errorReasons.map(reason => [`errors.${reason}`, errorsByReason[reason]]))
    })
  }

  /** The counts as instruments. */
  get instruments (): readonly Instrument[] {
    return Object.freeze([
      counter('orientor.sync.attempts', '{user}', 'Users looked at, by what it came to and why.', () => [
        { labels: { outcome: 'performed', reason: 'written' }, value: this.#performed },
        ...skipReasons.map(reason => ({ labels: { outcome: 'skipped', reason }, value: this.#skips[reason] })),
        ...errorReasons.map(reason => ({ labels: { outcome: 'error', reason }, value: this.#errors[reason] }))
      ]),
      counter('orientor.sync.profile_creates', '{user}', 'Rows made for users seen for the first time.', () => {
        return [{ labels: {}, value: this.#profileCreates }]
      }),
      counter(
        'orientor.sync.email_collisions', '{user}',
        'Users stored without their e-mail address, because it is another\'s.',
        () => [{ labels: {}, value: this.#emailCollisions }]
      ),
      counter(
        'orientor.sync.dead_letters', '{letter}', 'What could not be stored, and was kept as dead letters.',
        () => [{ labels: {}, value: this.#deadLetters }]
      )
    ])
  }
}

function counter (name: string, unit: string, help: string, read: Instrument['read']): Instrument {
  return Object.freeze({ name, kind: 'counter', unit, help, read })
}

function total (counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}
