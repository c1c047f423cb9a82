import { createHash } from 'node:crypto'
import { errors } from './errors.js'

/** `${issuer} ${subject}`, made only by sessionKey(): the identity of a user everywhere (map keys, table, bus). Exact bytes, no case folding. */
export type SessionKey = string & { readonly '~key': true }

/** SHA-256 of a key in lower-case hexadecimal, the same in SQL: what announcements carry (64 characters, no personal data). */
export type SessionKeyHash = string & { readonly '~hash': true }

/** Longest subject, in bytes of UTF-8 (OpenID Connect Core 1.0, section 2, says 255 ASCII characters). */
export const maxSubjectBytes = 255

/**
 * Names a user.
 *
 * @param issuer - `iss` of the identity provider; not empty, without white space or control characters
 * @param subject - `sub`; not empty, well-formed UTF-16, without NUL, at most 255 bytes of UTF-8
 * @throws ORI_CONTRACT_INVALID_SESSION_KEY when either breaks its rule
 */
export function sessionKey (issuer: string, subject: string): SessionKey {
  const flaw = issuerFlaw(issuer) ?? subjectFlaw(subject)
  if (flaw !== null) throw new errors.InvalidSessionKey(flaw)
  return `${issuer} ${subject}` as SessionKey
}

/** Why this value cannot be an issuer, or null when it can. Says the rule, never the value. */
export function issuerFlaw (issuer: unknown): string | null {
  if (typeof issuer !== 'string' || issuer === '') return 'An issuer must be a non-empty string.'
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\s\u0000-\u001f\u007f]/u.test(issuer)) return 'An issuer must not hold white space or control characters: it is the part of a session key before the first space.'
  if (!issuer.isWellFormed()) return 'An issuer must be well-formed Unicode.'
  return null
}

/** Why this value cannot be a subject, or null when it can. Says the rule, never the value. */
export function subjectFlaw (subject: unknown): string | null {
  if (typeof subject !== 'string' || subject === '') return 'A subject must be a non-empty string.'
  if (subject.includes('\0')) return 'A subject must not hold NUL, which Postgres cannot store.'
  if (!subject.isWellFormed()) return 'A subject must be well-formed Unicode: two lone surrogates would be stored as one character.'
  if (Buffer.byteLength(subject) > maxSubjectBytes) return `A subject must be at most ${maxSubjectBytes} bytes of UTF-8.`
  return null
}

/** The two parts of a key. */
export function splitSessionKey (key: SessionKey): { readonly issuer: string, readonly subject: string } {
  const space = key.indexOf(' ')
  return { issuer: key.slice(0, space), subject: key.slice(space + 1) }
}

/**
 * Hash of a key as announcements carry it. In SQL: `encode(sha256(convert_to(issuer || ' ' || clerk_user_id, 'UTF8')), 'hex')`.
 */
export function sessionKeyHash (key: SessionKey): SessionKeyHash {
  return createHash('sha256').update(key, 'utf8').digest('hex') as SessionKeyHash
}
