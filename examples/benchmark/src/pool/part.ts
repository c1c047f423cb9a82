/** What a process is told to measure. */
export interface PoolTask {
  readonly connectionString: string
  /** Pairs of slices, one slice of each pool in every pair. */
  readonly pairs: number
  /** Statements in a slice. */
  readonly statements: number
  /** Failing statements in a slice. */
  readonly failures: number
}

/** One slice: time per statement, in microseconds. */
export interface Slice {
  readonly wallMicros: number
  /** CPU time of the whole process, from the operating system. */
  readonly cpuMicros: number
}

/** Two slices side by side. */
export interface Pair { readonly stock: Slice, readonly tuned: Slice }

/** What one process measured. */
export interface PoolPart {
  /** `pool.query('SELECT 1')`, one after the other. */
  readonly query: readonly Pair[]
  /** `connect()`, the same statement, `release()`. */
  readonly checkout: readonly Pair[]
  /** An INSERT that violates a primary key. */
  readonly failing: readonly Pair[]
}
