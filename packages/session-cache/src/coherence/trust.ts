/** An instant on both clocks, in milliseconds; see ageOf() for why one is not enough. */
export interface Instant {
  readonly monotonicMs: number
  readonly wallMs: number
}

/**
 * The proof of a bus about the changes that it announced. The cache only reads it, on every hit, so reading must
 * cost nothing.
 */
export interface Trust {
  /** B: the age that an unmarked user may have, in milliseconds. */
  readonly maxStalenessMs: number
  /**
   * Number of the unbroken run of announcements. What was loaded in another run is not covered by the proofs of this
   * one.
   */
  readonly epoch: number
  /**
   * Everything that was committed before this instant has been announced and applied; -Infinity while nothing is
   * proven in this epoch. Monotonic clock.
   */
  readonly provenAtMs: number
  /** The same instant on the wall clock. */
  readonly provenWallMs: number
  /**
   * The last proof of an epoch, the current one or one that has ended; null when it had none, or ended too long ago to
   * be remembered.
   */
  lastProofOf (epoch: number): Instant | null
  /**
   * Whether what is proven in this epoch holds for what was read where a read mark says (`UserRecord.readMark`). A
   * source that does not tell (undefined) is taken at its word: covered.
   */
  covers (readMark: string | undefined): boolean
}
