/** Longest name in PostgreSQL, in bytes: it cuts longer ones, which then are not what was given (NAMEDATALEN). */
export const mostNameBytes = 63

/** Whether this can be the name of something in PostgreSQL, as it is. */
export function isName (input: unknown): input is string {
  return typeof input === 'string' && input !== '' && !input.includes('\0') && Buffer.byteLength(input) <= mostNameBytes
}
