import { issuerFlaw, parseProviderTimestamp, subjectFlaw } from '@orientor/session-contract/core'
import type { Provider, TokenType } from './claim-options.js'
import type { ParsedToken } from './parsed-token.js'

/** What a token must say of itself, besides bearing a good signature. */
export interface ClaimRules {
  /** `iss`, compared exactly; null: any. */
  readonly issuer: string | null
  /** Whether a token without `iss` is of this issuer. */
  readonly isIssuerImplied: boolean
  /** The audience claim must name one of these; null: not looked at. */
  readonly audience: readonly string[] | null
  /** Path of the claim that names the audience. */
  readonly audienceClaim: readonly string[]
  /** `azp` must be there and be one of these; null: not looked at. */
  readonly authorizedParties: readonly string[] | null
  /** The provider whose rules the tokens are held to; null: the token's `kid` tells. */
  readonly provider: Provider | null
  /** Accepted types; null: `JWT`, and `at+jwt` where an audience is demanded and the token is not Clerk's. */
  readonly tokenTypes: readonly TokenType[] | null
  /** Path of the claim that names the user by text or integer; null: `sub`, by text. */
  readonly subject: readonly string[] | null
  /** `alg` must be one of these; null: any but `none`. */
  readonly algorithms: readonly string[] | null
  /** Whether a token without `exp` is refused. */
  readonly requireExpiry: boolean
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

type Claims = Readonly<Record<string, unknown>>

/** The refusal of a token whose issuer is not accepted. */
export const unknownIssuer = 'The issuer of the token is not accepted'

/** Clerk's classes of tokens that are signed with the same key: sessions, and instances that do not tell classes apart. */
const sessionCategories: readonly unknown[] = ['cl_B7d4PD111AAA', 'cl_I7d4PD111III']

/** Subjects of Clerk that are no users: machines, their tokens, API keys, OAuth applications. */
const machineSubject = /^(?:mch|mt|oat|oac|ak)_/

/** Claims that only tokens for another use have: ID tokens (OpenID Connect Core 1.0, section 3.3.2.11), security events (RFC 8417, section 2.2). */
const claimsOfOtherKinds: readonly string[] = ['at_hash', 'c_hash', 'events']

/** The marks of tokens that are not for an API: the claim `typ` of Keycloak, in lower case. */
const otherKinds: readonly string[] = ['id', 'serialized-id', 'refresh', 'offline', 'logout']

/** Why a token is refused at this instant, or null. Says the rule, never a value. */
export function tokenFlaw ({ header, claims }: Pick<ParsedToken, 'header' | 'claims'>, rules: ClaimRules, nowMs: number): string | null {
  const ofClerk = isOfClerk(header, rules)
  // Only a class tells a session token from an ID token or an OAuth token of the same key; without one it must name its session.
  if (ofClerk && header['cat'] === undefined && typeof claims['sid'] !== 'string') return 'The token is not a session token'
  return headerFlaw(header, rules) ?? claimsFlaw(claims, rules, nowMs, ofClerk)
}

/** Whether a token is held to Clerk's rules. Its keys are named after the instance, `ins_…`, also where the issuer's address does not tell. */
export function isOfClerk (header: Readonly<Record<string, unknown>>, { provider }: ClaimRules): boolean {
  if (provider !== null) return provider === 'clerk'
  const kid = header['kid']
  return typeof kid === 'string' && kid.startsWith('ins_')
}

/**
 * Why a token is refused for its header, or null. Unknown parameters are ignored (RFC 7515, section 4), and so are `jwk`, `jku`,
 * `x5u` and `x5c`: keys come from the configured place only.
 */
export function headerFlaw (header: Readonly<Record<string, unknown>>, rules: ClaimRules): string | null {
  const alg = header['alg']
  if (typeof alg !== 'string' || alg.toLowerCase() === 'none') return 'The token is not signed'
  if (rules.algorithms !== null && !rules.algorithms.includes(alg)) return 'The algorithm of the token is not allowed'
  if ('crit' in header || 'b64' in header) return 'The token needs an extension that is not understood'
  const ofClerk = isOfClerk(header, rules)
  if (!isAcceptedType(header['typ'], rules, ofClerk)) return 'The token is of another type'
  const cat = header['cat']
  if (ofClerk && cat !== undefined && !sessionCategories.includes(cat)) return 'The token is not a session token'
  if (header['kid'] !== undefined && typeof header['kid'] !== 'string') return 'The token names its key in an unknown way'
  return null
}

/**
 * Why a token is refused for its claims at this instant, or null. Says the rule, never a value.
 *
 * @param ofClerk - whether it is held to Clerk's rules: isOfClerk()
 */
export function claimsFlaw (claims: Claims, rules: ClaimRules, nowMs: number, ofClerk: boolean): string | null {
  if (issuerOf(claims, rules) === null) return unknownIssuer
  if (rules.audience !== null && !namesOneOf(valueAt(claims, rules.audienceClaim), rules.audience)) return 'The token is meant for another audience'
  const azp = claims['azp']
  if (rules.authorizedParties !== null && !(typeof azp === 'string' && rules.authorizedParties.includes(azp))) return 'The token was made for another party'
  if (isMarkedForAnotherUse(claims)) return 'The token is not an access token'
  if (subjectOf(claims, rules) === null) return 'The token names no acceptable subject'
  if (ofClerk && machineSubject.test(String(claims['sub']))) return 'The token is not a session token'
  return timeFlaw(claims, rules, nowMs)
}

/** The issuer that a token is of, or null when that is not accepted. */
export function issuerOf ({ iss }: Claims, rules: ClaimRules): string | null {
  if (iss === undefined && rules.isIssuerImplied) return rules.issuer
  if (rules.issuer === null) return issuerFlaw(iss) === null ? iss as string : null
  return iss === rules.issuer ? rules.issuer : null
}

/** The user that a token names, or null when it names none that is acceptable. An integer that JavaScript cannot hold exactly is none. */
export function subjectOf (claims: Claims, { subject: path }: ClaimRules): string | null {
  const value = path === null ? claims['sub'] : valueAt(claims, path)
  const subject = path !== null && Number.isSafeInteger(value) ? String(value) : value
  return subjectFlaw(subject) === null && (subject as string).trim() !== '' ? subject as string : null
}

/** When a token without flaws counts. */
export function validityOf (claims: Claims, rules: ClaimRules): Validity {
  const { exp, nbf, iat } = claims as { exp?: number, nbf?: number, iat?: number }
  return {
    fromMs: Math.max(nbf ?? -Infinity, iat ?? -Infinity) * 1000 - rules.clockToleranceMs,
    untilMs: (exp ?? Infinity) * 1000 + rules.clockToleranceMs
  }
}

/** Whether a token of Clerk says that its session waits for something, such as a task after sign-in: its user is not signed in yet. */
export function isPending (claims: Claims): boolean {
  return claims['sts'] === 'pending'
}

/** The instant that a claim holds, in milliseconds since the epoch; null when there is none that can be read. */
export function instantIn (claims: Claims, path: readonly string[]): number | null {
  return parseProviderTimestamp(valueAt(claims, path))
}

/** The value at a path of names; undefined where there is none. */
function valueAt (claims: Claims, path: readonly string[]): unknown {
  let value: unknown = claims
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

/** A media type, in which case does not count and `application/` may be left out (RFC 7515, section 4.1.9). */
function isAcceptedType (typ: unknown, { tokenTypes, audience }: ClaimRules, ofClerk: boolean): boolean {
  if (typ !== undefined && typeof typ !== 'string') return false
  const type = (typ ?? 'JWT').toLowerCase().replace(/^application\//, '')
  if (tokenTypes !== null) return tokenTypes.some(accepted => accepted.toLowerCase() === type)
  return type === 'jwt' || (type === 'at+jwt' && audience !== null && !ofClerk)
}

/** Keycloak marks tokens by a claim `typ`, Amazon Cognito by `token_use`, the standards by claims of their own. */
function isMarkedForAnotherUse (claims: Claims): boolean {
  const { typ, token_use: use } = claims
  if ((typeof typ === 'string' && otherKinds.includes(typ.toLowerCase())) || use === 'id') return true
  return claimsOfOtherKinds.some(name => Object.hasOwn(claims, name))
}

function timeFlaw (claims: Claims, rules: ClaimRules, nowMs: number): string | null {
  const { exp, nbf, iat } = claims as Partial<Record<'exp' | 'nbf' | 'iat', unknown>>
  if (!isNumericDate(exp) || !isNumericDate(nbf) || !isNumericDate(iat)) return 'A time of the token is not a number'
  if (exp === undefined && rules.requireExpiry) return 'The token does not expire'
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
