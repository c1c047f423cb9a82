import type { ObservedProfile } from './observation.js'

/** The texts of an observation, by the place of their list among the values of a write (observedValues()). */
const places: Readonly<Record<string, 'key' | ProfileText>> = {
  1: 'key', 2: 'key', 3: 'email', 4: 'firstName', 5: 'lastName', 6: 'data'
}
const profileTexts = ['email', 'firstName', 'lastName', 'data'] as const
const isBeyondAscii = /[^\0-\x7f]/

/** A text of a profile that a database may be unable to hold. */
export type ProfileText = typeof profileTexts[number]

/** Whether a statement failed for a letter that the encoding of the database lacks (untranslatable_character). */
export function isUnholdable (error: unknown): boolean {
  return (error as { readonly code?: unknown } | null | undefined)?.code === '22P05'
}

/**
 * The text of the only observation of a write that the database cannot hold. PostgreSQL says in the context of the
 * error at which parameter it stopped ("unnamed portal parameter $4"); where it does not, the first text that is not
 * ASCII, and when there is none left the key. Null: a value that is not of the observation.
 */
export function unholdableText (error: unknown, profile: ObservedProfile): 'key' | ProfileText | null {
  const parameter = /\$(\d+)/.exec(String((error as { readonly where?: unknown }).where))?.[1]
  if (parameter !== undefined) return places[parameter] ?? null
  return profileTexts.find(name => profile[name] !== null && isBeyondAscii.test(JSON.stringify(profile[name]))) ?? 'key'
}
