import type { ProfileText } from './unholdable-text.js'

/** The log that is told; Fastify's logger fits. */
export interface UnholdableLog {
  warn (details: object, message: string): void
}

/**
 * A function that tells a log of texts that the database cannot hold: once of keys of users, and once of each part of a
 * profile, without any value.
 */
export function unholdableTeller (log: UnholdableLog): (text: 'key' | ProfileText) => void {
  const told = new Set<string>()
  return text => {
    if (told.has(text)) return
    told.add(text)
    const what = text === 'key'
      ? 'a token names its user by letters that the encoding of the database lacks: such users are unknown here'
      : `the encoding of the database lacks letters of a user's ${text}, which was left out`
    log.warn({ sqlState: '22P05' }, `smart-sync: ${what}. Keep users in a database with the encoding UTF8`)
  }
}
