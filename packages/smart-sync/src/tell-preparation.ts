import { sentenceOf } from './adoption.js'
import type { Preparation } from './prepare-tables.js'

/** The log that is told of the tables; Fastify's logger fits. */
export interface PreparationLog {
  error (details: object, message: string): void
  warn (details: object, message: string): void
  info (details: object, message: string): void
}

/** Tells a log how the tables were found, at a start or later. A flaw that the operator has to mend is an error. */
export function tellPreparation ({ adoption, failure }: Preparation, log: PreparationLog): void {
  if (adoption === null) {
    const effect = 'users are served as they are stored, and none is written'
    log.warn({ err: failure }, `smart-sync: the users table could not be looked at yet; ${effect}`)
    return
  }
  const { isReadable, refusals, warnings } = adoption
  const effect = isReadable ? 'users are served as they are stored, and none is written' : 'no user can be read'
  if (refusals.length > 0) log.error({}, `smart-sync: ${effect}. ${sentenceOf(refusals)}`)
  if (failure !== null) {
    const what = 'the tables could not be brought up to date. Users can be read, and are served'
    log.warn({ err: failure }, `smart-sync: ${what}`)
  }
  for (const flaw of warnings) log.warn({}, `smart-sync: ${sentenceOf([flaw])}`)
  const isInOrder = refusals.length === 0 && failure === null && warnings.length === 0
  if (isInOrder) log.info({}, 'smart-sync: the tables are in order again')
}
