import type { ProfileObserved } from './observation.js'
import type { TableFacts } from './sql/table-facts.js'
import type { UsersTable } from './users-table.js'

/** The columns that take less than an observation has for them, each with both lengths in characters. Pure. */
export function longValues (
  { subject, issuer, columns }: UsersTable, facts: TableFacts | null, observation: ProfileObserved
): readonly string[] {
  const { profile } = observation
  const values: ReadonlyArray<readonly [column: string, value: string | null]> = [
    ...(typeof issuer === 'string' ? [[issuer, observation.issuer] as const] : []),
    [subject, observation.subject],
    [columns.email, profile.email],
    [columns.firstName, profile.firstName],
    [columns.lastName, profile.lastName],
    [columns.fingerprint, observation.fingerprint]
  ]
  return values.flatMap(([name, value]) => {
    const maxLength = facts?.columns.find(column => column.name === name)?.maxLength ?? null
    // PostgreSQL counts characters, JavaScript halves of pairs.
    const length = value === null ? 0 : [...value].length
    if (maxLength === null || length <= maxLength) return []
    return [`column ${JSON.stringify(name)} takes ${maxLength} characters, and the value has ${length}`]
  })
}
