/** What is shown of one instance. Times are milliseconds. */
export interface InstanceRow {
  readonly name: string
  /** Cut off from the database by hand. */
  readonly cut: boolean
  /** What it served last; null before its first answer, and while it answers with no user. */
  readonly version: number | null
  /** How long a newer version has been committed; 0 when there is none. */
  readonly ageMs: number
  readonly marked: boolean
  readonly trusted: boolean
  /** The status of the last answer. */
  readonly status: number | null
  /** From the return of the last commit to the first answer with it; null while that has not come. */
  readonly propagationMs: number | null
  /** Over all commits that came through while the instance was not cut off; null before the first. */
  readonly medianMs: number | null
}
