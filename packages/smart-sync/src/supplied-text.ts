import { errors } from './errors.js'

/**
 * The value that a function of the option `insert` supplies, as the text that PostgreSQL reads it from: a Date in ISO
 * 8601, an object or a list as JSON, null as it is.
 *
 * @throws ORI_SYNC_INSERT_REFUSED when the function throws, or answers with what is no value, a promise among it
 */
export function suppliedText (column: string, supply: () => unknown): string | null {
  try {
    const value = supply()
    if (value === null) return null
    if (isThenable(value)) {
      // Nothing else waits for it, and an unhandled rejection ends the process.
      value.then(undefined, () => {})
      throw new TypeError('a promise: supply the value at once')
    }
    if (value instanceof Date) return value.toISOString()
    if (typeof value === 'object') return JSON.stringify(value)
    if (['string', 'number', 'boolean', 'bigint'].includes(typeof value)) return String(value)
    throw new TypeError(`a value of type ${typeof value}`)
  } catch (cause) {
    throw new errors.InsertRefused(column, { cause })
  }
}

function isThenable (value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | undefined)?.then === 'function'
}
