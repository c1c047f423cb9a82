/** A connection string that cannot be used, or cannot any more; the message says why and holds nothing of it. */
export class UnusableConnection extends Error {
  override readonly name: string = 'UnusableConnection'
}
