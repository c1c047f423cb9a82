/**
 * A text that Postgres can store, or null when there is none: without NUL, well-formed; an empty one counts as none.
 */
export function cleanText (value: unknown): string | null {
  if (typeof value !== 'string') return null
  return storable(value) || null
}

/** A JSON value that Postgres can store: every text in it, names included, without NUL and well-formed. */
export function cleanJson (value: unknown): unknown {
  if (typeof value === 'string') return storable(value)
  if (Array.isArray(value)) return value.map(cleanJson)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [storable(name), cleanJson(inner)]))
}

function storable (text: string): string {
  return text.replaceAll('\0', '').toWellFormed()
}
