/** A row as the server sends it with `asSent`: texts, and null. */
export type TextRow = Readonly<Record<string, string | null>>

type Text = string | null | undefined

/** SQL for the instant in a column, in milliseconds since the epoch. A timestamp without time zone is read as UTC. */
export function instantMsSql (column: string): string {
  return `pg_catalog.floor(extract(epoch FROM ${column}) * 1000)`
}

/** The revision in a row; 0, which is no revision, where none is exact: any announcement then counts as news. */
export function revisionOfText (text: Text): number {
  const revision = Number(text ?? 0)
  return Number.isSafeInteger(revision) && revision > 0 ? revision : 0
}

/** The instant of instantMsSql(), in milliseconds since the epoch; null where there is none, or it is infinite. */
export function instantMsOfText (text: Text): number | null {
  const ms = Number(text ?? NaN)
  return Number.isFinite(ms) ? ms : null
}

/**
 * The instant of instantMsSql() up to which tokens are revoked, in milliseconds since the epoch: 0 where none is, and
 * the largest exact number for `infinity`, which revokes every token there will ever be.
 */
export function tokensValidFromMsOfText (text: Text): number {
  return Math.min(Math.max(Number(text ?? 0), 0), Number.MAX_SAFE_INTEGER)
}

/** The value of a JSON text; null where there is none. */
export function jsonOfText (text: Text): unknown {
  return JSON.parse(text ?? 'null')
}

/** The JSON object in a text; null where there is none, or another value. */
export function objectOfText (text: Text): Readonly<Record<string, unknown>> | null {
  const value = jsonOfText(text)
  return typeof value === 'object' && !Array.isArray(value) ? value as Readonly<Record<string, unknown>> | null : null
}
