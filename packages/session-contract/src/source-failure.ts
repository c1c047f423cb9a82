import { databaseFailureOf, isOutage } from './database-failure.js'
import { SourceUnavailable } from './user-source.js'
import { withdrawalOf } from './withdrawal.js'

/**
 * What a source answers with when a statement of its own failed because the database is not to be had: cannot be reached, or refuses. Null for every other
 * failure, which is for the source to judge.
 */
export function sourceFailureOf (error: unknown): SourceUnavailable | null {
  if (error instanceof SourceUnavailable) return error
  if (!isOutage(databaseFailureOf(error, 'own'))) return null
  const withdrawal = withdrawalOf(error, 'own')
  return new SourceUnavailable(withdrawal === null ? 'The database cannot be reached' : `PostgreSQL refuses: ${withdrawal.reason} (${withdrawal.code})`, { cause: error })
}
