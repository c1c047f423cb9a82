/**
 * A snapshot of PostgreSQL (`pg_snapshot`), which tells what a statement sees of other transactions: those below
 * `xmin` have ended, those from `xmax` on have not, and in between those in `xip` have not.
 */
export interface Snapshot {
  readonly xmin: bigint
  readonly xmax: bigint
  readonly xip: readonly bigint[]
}

/** Reads a snapshot as PostgreSQL writes it, such as `10:20:10,14,15`; null when it is none. */
export function snapshotOf (text: string): Snapshot | null {
  const parts = /^(\d{1,20}):(\d{1,20}):((?:\d{1,20}(?:,\d{1,20})*)?)$/.exec(text)
  if (parts === null) return null
  const [, xmin, xmax, xip] = parts
  return { xmin: BigInt(xmin!), xmax: BigInt(xmax!), xip: xip === '' ? [] : xip!.split(',').map(BigInt) }
}

/** Tells whether one snapshot sees every transaction that another one sees. Pure. */
export function seesAllOf (one: Snapshot, other: Snapshot): boolean {
  if (one.xmax < other.xmax) return false
  const open = new Set(other.xip)
  return one.xip.every(xid => xid >= other.xmax || open.has(xid))
}

const goneBack = 'The server has gone back in time: it does not see transactions that it saw before'
const askedTooLate = 'This instance did not ask for so long that changes were removed which it had not read'

/**
 * The reason why an answer that was read in one snapshot does not bring all changes since another; null: it does. Pure.
 *
 * @param asked - the snapshot that was asked from
 * @param read - the snapshot of the answer
 * @param removed - changes of transactions that it sees are removed
 */
export function gapBetween (asked: Snapshot, read: Snapshot, removed: Snapshot): string | null {
  if (!seesAllOf(read, asked)) return goneBack
  if (!seesAllOf(asked, removed)) return askedTooLate
  return null
}
