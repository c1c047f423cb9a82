import type { Instrument } from '@orientor/session-contract/core'

const skipReasons = ['current', 'not_due', 'confirmed', 'converged', 'unknown', 'deleted'] as const
const errorReasons = ['provider', 'future_version', 'refused', 'database', 'defect'] as const

/**
 * Why nothing was written: the stored row is `current`; the provider said nothing new and its turn has not come (`not_due`); it was asked
 * and `confirmed` the row; another instance wrote the same first (`converged`); the provider, or nobody, knows the user (`unknown`); the
 * user was `deleted`.
 */
export type SkipReason = typeof skipReasons[number]

/**
 * What failed: the `provider` could not be asked; it dates the user in the future (`future_version`); the user's data was `refused` by
 * the table; the `database` was not to be had; a `defect`.
 */
export type ErrorReason = typeof errorReasons[number]

/** Counts since the start, one attempt per user and load: attempts = performed + skipped + errors. */
export interface SyncStatsSnapshot {
  readonly attempts: number
  /** Users written. */
  readonly performed: number
  readonly skipped: number
  readonly errors: number
  /** First profiles: rows made. Not an outcome of its own: the attempt that made one counts as performed, or as the error it was made under. */
  readonly profileCreates: number
  /** Users stored without their e-mail address, because another row of the app's own unique column has it. */
  readonly emailCollisions: number
  readonly skips: Readonly<Record<SkipReason, number>>
  readonly errorsByReason: Readonly<Record<ErrorReason, number>>
}

/** Counts what syncs come to. */
export class SyncStats {
  #performed = 0
  #profileCreates = 0
  #emailCollisions = 0
  readonly #skips: Record<SkipReason, number> = { current: 0, not_due: 0, confirmed: 0, converged: 0, unknown: 0, deleted: 0 }
  readonly #errors: Record<ErrorReason, number> = { provider: 0, future_version: 0, refused: 0, database: 0, defect: 0 }

  performed (): void { this.#performed++ }
  created (): void { this.#profileCreates++ }
  skipped (reason: SkipReason): void { this.#skips[reason]++ }
  failed (reason: ErrorReason, times: number = 1): void { this.#errors[reason] += times }
  collided (times: number): void { this.#emailCollisions += times }

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
      counter('orientor.sync.profile_creates', '{user}', 'Rows made for users seen for the first time.', () => [{ labels: {}, value: this.#profileCreates }]),
      counter('orientor.sync.email_collisions', '{user}', 'Users stored without their e-mail address, because it is another\'s.', () => [{ labels: {}, value: this.#emailCollisions }])
    ])
  }
}

function counter (name: string, unit: string, help: string, read: Instrument['read']): Instrument {
  return Object.freeze({ name, kind: 'counter', unit, help, read })
}

function total (counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}
