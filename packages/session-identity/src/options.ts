import {
  callable, durationMs, integer, invalidOption, issuerFlaw, listOf, objectWith, oneOf, optional, readOptions, rule, systemClock, text, withDefault,
  type Clock, type OptionRule
} from '@orientor/session-contract/core'
import type { Fetch } from './fetch-json.js'

/** Asymmetric signature algorithms (RFC 7518, section 3; RFC 8037; RFC 9864). */
export type Algorithm = 'RS256' | 'RS384' | 'RS512' | 'PS256' | 'PS384' | 'PS512' | 'ES256' | 'ES384' | 'ES512' | 'EdDSA' | 'Ed25519'

/** Options of the plugin. Times are in milliseconds. */
export interface SessionIdentityOptions {
  /**
   * `iss` of the tokens, compared exactly; for Clerk the Frontend API URL. With `verify: 'jwks'` it is needed; with `'fastify-jwt'` any
   * issuer counts that the application's verifier lets through, unless this option names one.
   */
  readonly issuer?: string
  /** Where the issuer publishes its keys: an http or https URL. Default is `<issuer>/.well-known/jwks.json`. For `verify: 'jwks'` only. */
  readonly jwksUrl?: string
  /** Accepted values of `aud`; a token must name one of them. Default: `aud` is not looked at. */
  readonly audience?: string | readonly string[]
  /**
   * Accepted values of `azp`, the origins that tokens are made for; a token must have one of them. Default: `azp` is not looked at.
   * To be set where the cookie is read: it is what keeps a sister site's tokens out.
   */
  readonly authorizedParties?: readonly string[]
  /** Accepted signature algorithms. Default is RS256; with `verify: 'fastify-jwt'`, what the application's verifier accepts. */
  readonly algorithms?: readonly Algorithm[]
  /**
   * Who checks signatures: this plugin with the issuer's published keys (`jwks`), or the application's own `@fastify/jwt`. Default is
   * `jwks` when `issuer` is given, else `fastify-jwt`.
   */
  readonly verify?: 'jwks' | 'fastify-jwt'
  /** Name of the cookie that is read when there is no `Authorization` header; false: none. Default is `__session`, also with a suffix as in `__session_a1b2c3d4`. */
  readonly cookie?: string | false
  /** Claim that says when the provider last changed the user: its name, or its path as a list of names. Default: none. */
  readonly updatedAtClaim?: string | readonly string[]
  /** How far the clocks of issuer and server may differ, 0 to 60000. Default is 5000. */
  readonly clockToleranceMs?: number
  /** Longest time from issue to expiry of a token, 1000 to 2147483647. Default is 86400000 (24 hours). */
  readonly maxTokenLifetimeMs?: number
  /** How long a verified token is believed before its signature is checked anew, 0 to 2147483647; 0: checked each time. Default is 300000 (5 minutes). */
  readonly recheckAfterMs?: number
  /** Most verified tokens remembered, 2 to 1000000; about 2 KB each. Default is 10000. */
  readonly maxTokens?: number
  /** Time. Default is the clock of this process. */
  readonly clock?: Clock
  /** How keys are fetched. Default is the platform's `fetch`. */
  readonly fetch?: Fetch
}

/** The options with every value set and every rule between them kept. */
export interface ResolvedSessionIdentityOptions {
  readonly verify: 'jwks' | 'fastify-jwt'
  readonly issuer: string | null
  /** Set when `verify` is `jwks`. */
  readonly jwksUrl: string | null
  readonly audience: readonly string[] | null
  readonly authorizedParties: readonly string[] | null
  readonly algorithms: readonly Algorithm[] | null
  readonly cookie: string | null
  readonly updatedAtClaim: readonly string[] | null
  readonly clockToleranceMs: number
  readonly maxTokenLifetimeMs: number
  readonly recheckAfterMs: number
  readonly maxTokens: number
  readonly clock: Clock
  readonly fetch: Fetch
}

/** The package, as messages and the hub name it. */
export const owner = '@orientor/session-identity'

const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'] as const

const texts = listOf(text, { min: 1 })
const textOrTexts: OptionRule<readonly string[]> = rule('a non-empty string or a non-empty list of such', input => texts.accept(typeof input === 'string' ? [input] : input))
const issuer = rule('a non-empty string without white space', input => issuerFlaw(input) === null ? input as string : undefined)
const webUrl = rule('an http or https URL without user name and password', input => isWebUrl(input) ? input as string : undefined)
const cookieName: OptionRule<string | false> = rule('the name of a cookie, or false', input => input === false || (typeof input === 'string' && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(input)) ? input : undefined)

/**
 * Reads the options: pure, and complete but for what only the application can tell at ready (whether `@fastify/jwt` is there).
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveOptions (input: unknown): ResolvedSessionIdentityOptions {
  const given = readOptions(owner, input, {
    issuer: optional(issuer),
    jwksUrl: optional(webUrl),
    audience: optional(textOrTexts),
    authorizedParties: optional(texts),
    algorithms: optional(listOf(oneOf(algorithms), { min: 1 })),
    verify: optional(oneOf(['jwks', 'fastify-jwt'])),
    cookie: withDefault(cookieName, '__session'),
    updatedAtClaim: optional(textOrTexts),
    clockToleranceMs: withDefault(durationMs({ min: 0, max: 60_000 }), 5000),
    maxTokenLifetimeMs: withDefault(durationMs({ min: 1000 }), 86_400_000),
    recheckAfterMs: withDefault(durationMs({ min: 0 }), 300_000),
    maxTokens: withDefault(integer({ min: 2, max: 1_000_000 }), 10_000),
    clock: withDefault(objectWith<Clock>('a clock with now(), monotonic() and setTimer()', ['now', 'monotonic', 'setTimer']), systemClock),
    fetch: withDefault(callable<Fetch>('(url, init) => Promise<Response>'), (url, init) => globalThis.fetch(url, init))
  })
  const verify = given.verify ?? (given.issuer === undefined && given.jwksUrl === undefined ? 'fastify-jwt' : 'jwks')
  return Object.freeze({
    ...given,
    verify,
    issuer: given.issuer ?? null,
    jwksUrl: verify === 'jwks' ? jwksUrlOf(given.issuer, given.jwksUrl) : withoutJwks(given.jwksUrl),
    audience: given.audience ?? null,
    authorizedParties: given.authorizedParties ?? null,
    algorithms: given.algorithms ?? (verify === 'jwks' ? ['RS256'] : null),
    cookie: given.cookie === false ? null : given.cookie,
    updatedAtClaim: given.updatedAtClaim ?? null
  } satisfies ResolvedSessionIdentityOptions)
}

function jwksUrlOf (issuer: string | undefined, jwksUrl: string | undefined): string {
  if (issuer === undefined) throw invalidOption(owner, 'option "issuer" is missing; it must be given with verify: "jwks", as the one accepted value of "iss".')
  if (jwksUrl !== undefined) return jwksUrl
  if (!isWebUrl(issuer)) throw invalidOption(owner, 'option "jwksUrl" is missing; it must be given when "issuer" is not an http or https URL.')
  return `${issuer.replace(/\/+$/, '')}/.well-known/jwks.json`
}

function withoutJwks (jwksUrl: string | undefined): null {
  if (jwksUrl !== undefined) throw invalidOption(owner, 'option "jwksUrl" must not be given with verify: "fastify-jwt", which has its own key.')
  return null
}

function isWebUrl (input: unknown): boolean {
  if (typeof input !== 'string' || !URL.canParse(input)) return false
  const { protocol, username, password } = new URL(input)
  return (protocol === 'https:' || protocol === 'http:') && username === '' && password === ''
}
