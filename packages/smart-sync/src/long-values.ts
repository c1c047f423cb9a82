import type { Observation } from './observation.js'
import type { TableFacts } from './sql/table-facts.js'
import type { UsersTable } from './users-table.js'

/** What of an observation is longer than its column takes, in words: never the value. Pure. */
export function longValues ({ subject, issuer, columns }: UsersTable, facts: TableFacts | null, observation: Observation): readonly string[] {
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
    const most = facts?.columns.find(column => column.name === name)?.maxLength ?? null
    // PostgreSQL counts characters, JavaScript halves of pairs.
    const length = value === null ? 0 : [...value].length
    return most === null || length <= most ? [] : [`column ${JSON.stringify(name)} takes ${most} characters, and the value has ${length}`]
  })
}
