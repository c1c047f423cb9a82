/**
 * The value of a column that PostgreSQL wrote as JSON; null where there is none. A number that JavaScript would round, such as a `bigint` or a `numeric` of
 * many digits, stays the text that it is; inside of lists and objects it is rounded.
 *
 * @throws SyntaxError when it is no JSON
 */
export function exactJson (json: string | null | undefined): unknown {
  const value: unknown = JSON.parse(json ?? 'null')
  return typeof value === 'number' && digitsOf(String(value)) !== digitsOf(json!) ? json : value
}

/** The digits that count of a number in decimal. */
function digitsOf (text: string): string {
  return text.replace(/e.*$/i, '').replace(/[-.]/g, '').replace(/^0+|0+$/g, '')
}
