import { databaseFailureOf, isOutage } from './database-failure.js'
import { SourceUnavailable } from './user-source.js'
import { withdrawalOf } from './withdrawal.js'

/**
 * The SourceUnavailable for a failed statement of a source's own: the database cannot be reached, or refuses. Null for
 * every other failure, which is for the source to judge.
 */
export function sourceFailureOf (error: unknown): SourceUnavailable | null {
  if (error instanceof SourceUnavailable) return error
  if (!isOutage(databaseFailureOf(error, 'own'))) return null
  const withdrawal = withdrawalOf(error, 'own')
  if (withdrawal === null) return new SourceUnavailable('The database cannot be reached', { cause: error })
  return new SourceUnavailable(`PostgreSQL refuses: ${withdrawal.reason} (${withdrawal.code})`, { cause: error })
}
