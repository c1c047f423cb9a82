import { isMisnamed, isPlanOutdated } from './database-failure.js'

/**
 * The names under which a source has connections prepare its statements. A statement whose plan does not fit any more,
 * because a table changed, is sent again without its name. Behind a pooler that gives out another session for each
 * transaction names are of no use: from the first sign of one on none is given.
 */
export class StatementNames {
  #areUsed = true

  /**
   * Sends a statement, at most twice.
   *
   * @param send - sends it under the name, where there is one; rejects as the driver does
   */
  async send<T> (name: string, send: (named: { readonly name?: string }) => Promise<T>): Promise<T> {
    if (!this.#areUsed) return await send({})
    try {
      return await send({ name })
    } catch (error) {
      if (!isPlanOutdated(error)) throw error
      if (isMisnamed(error)) this.#areUsed = false
      return await send({})
    }
  }
}
