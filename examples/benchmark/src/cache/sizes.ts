/** What is measured at which size. */
export interface Sizes {
  /** Entries of the small and of the large store. */
  readonly small: number
  readonly large: number
  /** How often each set is timed. */
  readonly runs: number
  /** Users of whom bytes are counted. */
  readonly users: number
}
