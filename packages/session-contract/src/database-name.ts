import { rule, type OptionRule } from './option-rules.js'

/** The longest name in PostgreSQL, in bytes (NAMEDATALEN): it cuts a longer one, which then is another name. */
export const maxNameBytes = 63

/** Whether PostgreSQL takes the input as a name, as it is: not empty, without NUL, at most `maxNameBytes`. */
export function isName (input: unknown): input is string {
  return typeof input === 'string' && input !== '' && !input.includes('\0') && Buffer.byteLength(input) <= maxNameBytes
}

/** The rule for the name of a table, a column or another thing in the database. */
export function nameOf (what: string): OptionRule<string> {
  return rule(`the name of a ${what}, at most ${maxNameBytes} bytes`, input => isName(input) ? input : undefined)
}

/** The rule for the name of a column. */
export const columnName: OptionRule<string> = nameOf('column')
