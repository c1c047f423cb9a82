import { errors } from './errors.js'
import type { WriteResult } from './user-store.js'

/** The answer of a store whose statement PostgreSQL refused for its data. */
export function refusedFor (
  cause: unknown, error: Error = new errors.RowRefused(placeOf(cause), { cause })
): WriteResult & { readonly kind: 'refused' } {
  const sqlState = sqlStateOf(cause)
  return { kind: 'refused', duplicate: sqlState === '23505', sqlState, error }
}

/** The refusal of a table that drops what is written, without an error. */
export function droppedSilently (): WriteResult & { readonly kind: 'refused' } {
  return { kind: 'refused', duplicate: false, error: new errors.LeftAsItWas() }
}

/** PostgreSQL's code of an error; empty when it has none. */
export function sqlStateOf (error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

/**
 * Whether a row was refused for what is in it. 22: a value does not fit; 23, 27, 44: a constraint; 54: too long for an
 * index; P0: a trigger refuses.
 */
export function isRowRefusal (error: unknown): boolean {
  return /^(?:2[237]|44|54|P0)/.test(sqlStateOf(error))
}

/** The place where a statement failed, without any value: SQLSTATE, table, column, constraint. */
export function placeOf (error: unknown): string {
  const { table, column, constraint } = (error ?? {}) as { table?: unknown, column?: unknown, constraint?: unknown }
  const parts = Object.entries({ SQLSTATE: sqlStateOf(error), table, column, constraint })
  const told = parts.filter(([, value]) => typeof value === 'string' && value !== '')
  return told.map(([name, value]) => `${name} ${String(value)}`).join(', ') || 'no SQLSTATE'
}
