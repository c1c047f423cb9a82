const windowStartMs = Date.UTC(2000, 0, 1)
const windowEndMs = Date.UTC(2200, 0, 1)
const longestInput = 64

const decimal = /^\d{1,19}(?:\.\d{1,9})?$/
const rfc3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)$/

/**
 * Reads an instant as identity providers write it and answers milliseconds since the epoch, floored; null when it cannot be read.
 * Never throws and never depends on the machine's time zone.
 *
 * Numbers, and strings of decimal digits, are seconds, milliseconds, microseconds or nanoseconds: the one unit that puts them
 * between 2000-01-01 and 2200-01-01 (the four ranges do not overlap). Other strings must be RFC 3339 with an offset and a real
 * calendar date in the same window. A `Date` counts by its time. Everything else, and any string over 64 characters, is unreadable.
 *
 * Unreadable does not mean old: the caller must neither store it nor take it for news.
 */
export function parseProviderTimestamp (value: unknown): number | null {
  if (typeof value === 'number') return fromNumber(value)
  if (typeof value === 'string') {
    if (value.length > longestInput) return null
    return decimal.test(value) ? fromDecimal(value) : fromRfc3339(value)
  }
  if (value instanceof Date) return within(value.getTime())
  return null
}

const units: ReadonlyArray<{ readonly perMs: number }> = [{ perMs: 1e-3 }, { perMs: 1 }, { perMs: 1e3 }, { perMs: 1e6 }]

function fromNumber (value: number): number | null {
  for (const { perMs } of units) {
    const ms = perMs < 1 ? value * 1e3 : value / perMs
    const instant = within(ms)
    if (instant !== null) return instant
  }
  return null
}

/** Digits are read exactly: a double cannot hold nanoseconds of this century. */
function fromDecimal (text: string): number | null {
  const [whole = '', fraction = ''] = text.split('.')
  for (const shift of [3, 0, -3, -6]) {
    const digits = shift > 0 ? whole + fraction.slice(0, shift).padEnd(shift, '0') : whole.slice(0, whole.length + shift)
    const instant = digits === '' ? null : within(Number(digits))
    if (instant !== null) return instant
  }
  return null
}

function fromRfc3339 (text: string): number | null {
  const match = rfc3339.exec(text)
  if (match === null) return null
  const [, year, month, day, hour, minute, second, fraction = '', , sign, offsetHour = '0', offsetMinute = '0'] = match
  const [y, mo, d, h, mi, s, oh, om] = [year, month, day, hour, minute, second, offsetHour, offsetMinute].map(Number) as [number, number, number, number, number, number, number, number]
  if (h > 23 || mi > 59 || s > 59 || oh > 23 || om > 59) return null
  const date = new Date(Date.UTC(y, mo - 1, d, h, mi, s, Number(fraction.slice(0, 3).padEnd(3, '0'))))
  if (date.getUTCMonth() !== mo - 1 || date.getUTCDate() !== d) return null
  const offsetMs = (oh * 60 + om) * 60_000
  return within(sign === '-' ? date.getTime() + offsetMs : date.getTime() - offsetMs)
}

function within (ms: number): number | null {
  return ms >= windowStartMs && ms < windowEndMs ? Math.floor(ms) : null
}
