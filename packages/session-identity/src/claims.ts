import { issuerFlaw, parseProviderTimestamp, subjectFlaw } from '@orientor/session-contract/core'

/** What a token must say of itself, besides bearing a good signature. */
export interface ClaimRules {
  /** `iss`, compared exactly; null: any. */
  readonly issuer: string | null
  /** `aud` must name one of these; null: not looked at. */
  readonly audience: readonly string[] | null
  /** `azp` must be there and be one of these; null: not looked at. */
  readonly authorizedParties: readonly string[] | null
  /** `alg` must be one of these; null: any but `none`. */
  readonly algorithms: readonly string[] | null
  /** Whether a token without `exp` is refused. */
  readonly expiryRequired: boolean
  /** How far the clocks of issuer and verifier may differ, in milliseconds: the one place where tolerance is applied. */
  readonly clockToleranceMs: number
  /** Longest time from issue to expiry, in milliseconds. */
  readonly maxTokenLifetimeMs: number
}

/** The span in which a token counts, in milliseconds since the epoch, tolerance included. */
export interface Validity {
  readonly fromMs: number
  /** First instant at which the token has expired; Infinity when it does not say. */
  readonly untilMs: number
}

/** Clerk's classes of tokens that are signed with the same key: sessions, and instances that do not tell classes apart. */
const sessionCategories: readonly unknown[] = ['cl_B7d4PD111AAA', 'cl_I7d4PD111III']

/**
 * Why a token is refused for its header, or null. Unknown parameters are ignored (RFC 7515, section 4), and so are `jwk`, `jku`,
 * `x5u` and `x5c`: keys come from the configured place only.
 */
export function headerFlaw (header: Readonly<Record<string, unknown>>, rules: ClaimRules): string | null {
  const alg = header['alg']
  if (typeof alg !== 'string' || alg.toLowerCase() === 'none') return 'The token is not signed'
  if (rules.algorithms !== null && !rules.algorithms.includes(alg)) return 'The algorithm of the token is not allowed'
  if ('crit' in header || 'b64' in header) return 'The token needs an extension that is not understood'
  const typ = header['typ']
  if (typ !== undefined && (typeof typ !== 'string' || typ.toUpperCase() !== 'JWT')) return 'The token is of another type'
  const cat = header['cat']
  if (cat !== undefined && !sessionCategories.includes(cat)) return 'The token is not a session token'
  if (header['kid'] !== undefined && typeof header['kid'] !== 'string') return 'The token names its key in an unknown way'
  return null
}

/** Why a token is refused for its claims at this instant, or null. Says the rule, never a value. */
export function claimsFlaw (claims: Readonly<Record<string, unknown>>, rules: ClaimRules, nowMs: number): string | null {
  const { iss, aud, azp, sub } = claims as Partial<Record<'iss' | 'aud' | 'azp' | 'sub', unknown>>
  if (rules.issuer === null ? issuerFlaw(iss) !== null : iss !== rules.issuer) return 'The issuer of the token is not accepted'
  if (rules.audience !== null && !namesOneOf(aud, rules.audience)) return 'The token is meant for another audience'
  if (rules.authorizedParties !== null && !(typeof azp === 'string' && rules.authorizedParties.includes(azp))) return 'The token was made for another party'
  if (subjectFlaw(sub) !== null || (sub as string).trim() === '') return 'The token names no acceptable subject'
  return timeFlaw(claims, rules, nowMs)
}

/** When a token without flaws counts. */
export function validityOf (claims: Readonly<Record<string, unknown>>, rules: ClaimRules): Validity {
  const { exp, nbf, iat } = claims as { exp?: number, nbf?: number, iat?: number }
  return {
    fromMs: Math.max(nbf ?? -Infinity, iat ?? -Infinity) * 1000 - rules.clockToleranceMs,
    untilMs: (exp ?? Infinity) * 1000 + rules.clockToleranceMs
  }
}

/** Whether a token says that its session waits for something, such as a task after sign-in: nobody is signed in yet. */
export function isPending (claims: Readonly<Record<string, unknown>>): boolean {
  return claims['sts'] === 'pending'
}

/** The instant that a claim holds, in milliseconds since the epoch; null when there is none that can be read. */
export function instantIn (claims: Readonly<Record<string, unknown>>, path: readonly string[]): number | null {
  let value: unknown = claims
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return null
    value = (value as Record<string, unknown>)[name]
  }
  return parseProviderTimestamp(value)
}

function timeFlaw (claims: Readonly<Record<string, unknown>>, rules: ClaimRules, nowMs: number): string | null {
  const { exp, nbf, iat } = claims as Partial<Record<'exp' | 'nbf' | 'iat', unknown>>
  if (!isNumericDate(exp) || !isNumericDate(nbf) || !isNumericDate(iat)) return 'A time of the token is not a number'
  if (exp === undefined && rules.expiryRequired) return 'The token does not expire'
  const { fromMs, untilMs } = validityOf(claims, rules)
  if (nowMs >= untilMs) return 'The token has expired'
  if (nowMs < fromMs) return 'The token is not valid yet'
  if (exp !== undefined && exp * 1000 - (iat === undefined ? nowMs : iat * 1000) > rules.maxTokenLifetimeMs) return 'The token lives too long'
  return null
}

/** Absent, or seconds since the epoch (RFC 7519, section 2); JSON can write an infinite number. */
function isNumericDate (value: unknown): value is number | undefined {
  return value === undefined || (typeof value === 'number' && Number.isFinite(value))
}

function namesOneOf (aud: unknown, accepted: readonly string[]): boolean {
  if (typeof aud === 'string') return accepted.includes(aud)
  return Array.isArray(aud) && aud.some(entry => typeof entry === 'string' && accepted.includes(entry))
}
