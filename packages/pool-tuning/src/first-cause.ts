/** The most errors that are followed from one to its cause. */
const maxCauses = 5

/** The message of the error that caused all others, without a full stop. */
export function firstCause (error: unknown): string {
  let first = error
  for (let depth = 0; depth < maxCauses; depth++) {
    const { cause, errors: several } = first as { readonly cause?: unknown, readonly errors?: readonly unknown[] }
    const next = cause ?? several?.[0]
    if (!(next instanceof Error)) break
    first = next
  }
  return (first as Error).message.replace(/\.$/, '')
}
