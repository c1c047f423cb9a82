/**
 * A text that Postgres can store, or null when there is none: without NUL, well-formed; an empty one counts as none.
 */
export function cleanText (value: unknown): string | null {
  if (typeof value !== 'string') return null
  return storable(value) || null
}

/**
 * The deepest level of a JSON value that is kept: what reads it afterwards, here and in PostgreSQL, calls itself once
 * per level.
 */
const maxDepth = 200

/**
 * A JSON value that Postgres can store: every text in it, names included, without NUL and well-formed, and null in
 * place of what lies deeper than 200 levels.
 */
export function cleanJson (value: unknown): unknown {
  return cleaned(value, 0)
}

function cleaned (value: unknown, depth: number): unknown {
  if (typeof value === 'string') return storable(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth === maxDepth) return null
  if (Array.isArray(value)) return value.map(inner => cleaned(inner, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [storable(name), cleaned(inner, depth + 1)]))
}

function storable (text: string): string {
  return text.replaceAll('\0', '').toWellFormed()
}
