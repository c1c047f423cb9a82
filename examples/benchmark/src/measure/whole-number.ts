/**
 * A number of things, from the command line.
 *
 * @param name - of the option, without the hyphens
 * @throws when it is not a whole number of at least 1
 */
export function wholeNumber (name: string, given: string): number {
  const value = Number(given)
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`--${name} must be a whole number of at least 1; received ${JSON.stringify(given)}`)
  return value
}
