/** A date as HTTP writes it today (IMF-fixdate, RFC 9110 §5.6.7). */
const httpDate = /^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/
const shortestMs = 1000
const longestMs = 3_600_000

/**
 * The header `Retry-After` in milliseconds from now, at least a second and at most an hour; null when there is none
 * that can be read. It holds whole seconds, or an HTTP date, which is compared with the sender's own `Date`, if any.
 *
 * @param nowMs - the wall clock here, in milliseconds since the epoch
 */
export function retryAfterMsOf (headers: Headers, nowMs: number): number | null {
  const text = headers.get('retry-after') ?? ''
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1000 : instantOf(text) - (instantOf(headers.get('date')) || nowMs)
  return Number.isNaN(waitMs) ? null : Math.min(longestMs, Math.max(shortestMs, waitMs))
}

/** Milliseconds since the epoch; NaN when the text is no HTTP date. */
function instantOf (text: string | null): number {
  return text !== null && httpDate.test(text) ? Date.parse(text) : NaN
}
