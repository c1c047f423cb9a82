import { columnName, isName } from './database-name.js'
import { rule, type OptionRule } from './option-rules.js'
import { issuerFlaw } from './session-key.js'

/** A column, or the value that all rows have instead of one. */
export type ColumnOr<T> = string | { readonly always: T }

/**
 * The rule for a column, or a constant in its place.
 *
 * @param constant - the constant, in words for the message
 */
export function columnOr<T> (constant: string, accepts: (always: unknown) => always is T): OptionRule<ColumnOr<T>> {
  return rule(`${columnName.must}, or ${constant}`, input => {
    if (isName(input)) return input
    if (typeof input !== 'object' || input === null || Object.keys(input).join() !== 'always') return undefined
    const { always } = input as { readonly always: unknown }
    return accepts(always) ? Object.freeze({ always }) : undefined
  })
}

const isIssuer = (input: unknown): input is string => issuerFlaw(input) === null

const columnOrIssuer = columnOr('{ always: "https://…" }, the iss of all tokens', isIssuer)

/**
 * The rule for the column of the issuer, or the one issuer of all rows. A URL is not taken for a column: it is the issuer
 * itself, which other options take as it is.
 */
export const issuerColumn: OptionRule<ColumnOr<string>> = rule(
  `${columnOrIssuer.must}; an issuer alone is no column`,
  input => typeof input === 'string' && input.includes('://') ? undefined : columnOrIssuer.accept(input)
)
