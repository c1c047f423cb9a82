import type pg from 'pg'
import type { Teardown } from './postgres/test-database.js'

/** Types by their numbers in `pg_type`: bool, names, whole and other numbers, texts, JSON, instants, uuid, and lists. */
const parsedTypes = [
  16, 18, 19, 20, 21, 23, 25, 26, 114, 700, 701, 1000, 1005, 1007, 1009, 1016, 1042, 1043, 1114, 1184, 1700, 2950, 3802
]

/**
 * Has values of all these types parsed as something odd, as an app may for all of its process, until the test ends. Then
 * `binary` is false again as well.
 */
export function oddTypeParsers (t: Teardown, { types, defaults }: Pick<typeof pg, 'types' | 'defaults'>): void {
  const kept = parsedTypes.map(type => [type, types.getTypeParser(type)] as const)
  for (const type of parsedTypes) types.setTypeParser(type, () => ({ odd: true }))
  t.teardown(() => {
    for (const [type, parser] of kept) types.setTypeParser(type, parser)
    defaults.binary = false
  })
}
