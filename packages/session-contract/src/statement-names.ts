import { databaseFailureOf, isMisnamed, isPlanOutdated } from './database-failure.js'

/**
 * The names under which a source has connections prepare its statements. A statement whose plan does not fit any more,
 * because a table changed, is sent again without its name. Behind a pooler that gives out another session for each
 * transaction names are of no use: from the first sign of one on none is given.
 */
export class StatementNames {
  #areUsed = true
  /** Names that were answered: a session may have prepared them. */
  readonly #answered = new Set<string>()

  /**
   * Sends a statement, at most twice.
   *
   * @param send - sends it under the name, where there is one; rejects as the driver does
   */
  async send<T> (name: string, send: (named: { readonly name?: string }) => Promise<T>): Promise<T> {
    if (!this.#areUsed) return await send({})
    try {
      const answer = await send({ name })
      this.#answered.add(name)
      return answer
    } catch (error) {
      if (!(this.#answered.has(name) ? isPlanOutdated(error) : databaseFailureOf(error) === 'outdated')) throw error
      if (isMisnamed(error)) this.#areUsed = false
      return await send({})
    }
  }
}
