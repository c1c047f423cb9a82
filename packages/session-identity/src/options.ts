import {
  callable, durationMs, hubOptionNames, hubOptionRules, integer, invalidOption, listOf, objectWith, oneOf, optional, readOptions, rule, withDefault,
  type Clock, type HubOptionValues, type OptionRule, type SessionHubOptions
} from '@orientor/session-contract/core'
import { asymmetricAlgorithms, type Algorithm } from './algorithm.js'
import {
  claimOptionRules, claimRulesOf, issuerClaimRules, issuerName, type ClaimOptions, type CommonClaimValues, type ConstantIssuer, type IssuerClaimOptions, type IssuerClaimValues
} from './claim-options.js'
import type { ClaimRules } from './claims.js'
import { canDiscoverFrom } from './discovery.js'
import type { Fetch } from './fetch-json.js'
import type { Identify } from './identify.js'
import type { KeyLocation } from './key-locator.js'
import { owner } from './owner.js'
import { systemLookup, type Lookup } from './private-host.js'
import { isWebUrl } from './web-url.js'

/** One of several issuers whose tokens are accepted in one scope. What is left out is as the plugin's own option says. */
export interface TrustedIssuer extends IssuerClaimOptions {
  /** `iss` of its tokens, compared exactly. */
  readonly issuer: string
  /** Where it publishes its keys: an http or https URL. Default: it says so by discovery, as for the plugin's own option. */
  readonly jwksUrl?: string
  /** Accepted signature algorithms, all asymmetric. */
  readonly algorithms?: readonly Algorithm[]
}

/** Options of the plugin. Times are in milliseconds. */
export interface SessionIdentityOptions extends ClaimOptions, SessionHubOptions {
  /**
   * `iss` of the tokens, compared exactly; for Clerk the Frontend API URL. With `verify: 'jwks'` it is needed, as a name; with `'fastify-jwt'` any
   * issuer counts that the application's verifier lets through, unless this option names one, and `{ always: 'my-app' }` is for tokens that name none.
   */
  readonly issuer?: string | ConstantIssuer
  /**
   * Several issuers instead of one; each has its own keys, which vouch for its own tokens only. For `verify: 'jwks'` only, and instead
   * of `issuer` and `jwksUrl`. In this order their cookies count.
   */
  readonly issuers?: readonly TrustedIssuer[]
  /**
   * Where the issuer publishes its keys: an http or https URL. Default is the `jwks_uri` of its
   * `<issuer>/.well-known/openid-configuration` or, when that does not exist (404), `<issuer>/.well-known/jwks.json`. For
   * `verify: 'jwks'` only.
   */
  readonly jwksUrl?: string
  /** To be set where the cookie is read: it is what keeps a sister site's tokens out, and other sites' requests in the user's name. */
  readonly authorizedParties?: readonly string[]
  /**
   * Accepted signature algorithms, all asymmetric. Default: what each published key says (`alg`), else what its type and curve say,
   * RS256 for RSA; with `verify: 'fastify-jwt'`, what the application's verifier accepts.
   */
  readonly algorithms?: readonly Algorithm[]
  /**
   * The verifier of signatures: this plugin with the issuer's published keys (`jwks`), or the application's own `@fastify/jwt`. Default is
   * `jwks` when `issuers`, `jwksUrl` or an `issuer` by name is given, else `fastify-jwt`.
   */
  readonly verify?: 'jwks' | 'fastify-jwt'
  /**
   * The application's own way from request to identity, such as `fromJwt()` or `fromClerk(getAuth)`. What it throws with a status from 400 to 499 is a
   * refusal with that status, and what `request.jwtVerify()` throws for want of credentials is anonymous; anything else is a defect.
   * Default: none, tokens are verified by this plugin. With it no other option may be given but `clock`, `refuse` and `refuseAs`.
   */
  readonly identify?: Identify
  /**
   * Name of the cookie that is read when there is no bearer token; false: none. Default is `__session`, also with a suffix as in
   * `__session_a1b2c3d4`.
   */
  readonly cookie?: string | false
  /** How long a verified token is believed before its signature is checked anew, from 0; 0: checked each time. Default is 300000 (5 minutes). */
  readonly recheckAfterMs?: number
  /**
   * Most verified tokens in use that are remembered, 2 to 1000000. Up to twice as many are held, as those that were not used lately go
   * together; what one takes of memory is in the README. Default is 10000.
   */
  readonly maxTokens?: number
  /** How keys are fetched. Default is the platform's `fetch`. */
  readonly fetch?: Fetch
}

/** The published keys of an issuer. */
export interface IssuerKeys {
  readonly location: KeyLocation
  /** What keys without an `alg` may verify; null: what their type and curve say. */
  readonly algorithms: readonly Algorithm[] | null
}

/** One accepted issuer with every value set. */
export interface ResolvedIssuer {
  /** What its tokens are held to; `rules.issuer` null: any issuer that the application's verifier lets through. */
  readonly rules: ClaimRules
  /** The keys that it publishes; null with `verify: 'fastify-jwt'`, where the application has the key. */
  readonly keys: IssuerKeys | null
}

/** The options with every value set and every rule between them kept. */
export interface ResolvedSessionIdentityOptions {
  readonly verify: 'jwks' | 'fastify-jwt'
  /** Not null: requests are identified by the application, and only `clock` and `hub` count besides. */
  readonly identify: Identify | null
  readonly issuers: readonly ResolvedIssuer[]
  readonly cookie: string | null
  readonly updatedAtClaim: readonly string[] | null
  readonly recheckAfterMs: number
  readonly maxTokens: number
  readonly clock: Clock
  readonly fetch: Fetch
  /** Finds the addresses of hosts that an issuer names; null where `fetch` is the application's own, and may ask another network. */
  readonly lookup: Lookup | null
  /** What is passed through to the hub. */
  readonly hub: HubOptionValues
}

const platformFetch: Fetch = async (url, init) => await globalThis.fetch(url, init)

const webUrl = rule('an http or https URL without user name and password', input => isWebUrl(input) ? input : undefined)
const cookieName: OptionRule<string | false> = rule('the name of a cookie, or false', input => input === false || (typeof input === 'string' && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(input)) ? input : undefined)

const ofOneIssuer = { ...issuerClaimRules, jwksUrl: optional(webUrl), algorithms: optional(listOf(oneOf(asymmetricAlgorithms), { min: 1 })) }

/**
 * Reads the options: pure, and complete but for what only the application can tell at ready (whether `@fastify/jwt` is there).
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveOptions (input: unknown): ResolvedSessionIdentityOptions {
  const given = readOptions(owner, input, {
    ...claimOptionRules,
    ...ofOneIssuer,
    ...hubOptionRules,
    issuers: optional(listOf(objectWith<TrustedIssuer>('an object that names an issuer', []), { min: 1 })),
    verify: optional(oneOf(['jwks', 'fastify-jwt'])),
    identify: optional(callable<Identify>('(request, route) => Identity | outcome, or a promise of one')),
    cookie: withDefault(cookieName, '__session'),
    recheckAfterMs: withDefault(durationMs({ min: 0, max: Number.MAX_SAFE_INTEGER }), 300_000),
    maxTokens: withDefault(integer({ min: 2, max: 1_000_000 }), 10_000),
    fetch: optional(callable<Fetch>('(url, init) => Promise<Response>'))
  })
  if (given.identify !== undefined) {
    refuseBesides(input as object, ['identify', 'clock', ...hubOptionNames], 'with "identify", which has rules of its own: fromJwt() and fromClerk() take them as their options')
  }
  const verify = given.verify ?? (typeof given.issuer !== 'string' && given.issuers === undefined && given.jwksUrl === undefined ? 'fastify-jwt' : 'jwks')
  return Object.freeze({
    verify,
    identify: given.identify ?? null,
    issuers: given.identify === undefined ? Object.freeze(issuersOf(given, verify)) : [],
    cookie: given.cookie === false ? null : given.cookie,
    updatedAtClaim: given.updatedAtClaim ?? null,
    recheckAfterMs: given.recheckAfterMs,
    maxTokens: given.maxTokens,
    clock: given.clock,
    fetch: given.fetch ?? platformFetch,
    lookup: given.fetch === undefined ? systemLookup : null,
    hub: Object.freeze({ refuse: given.refuse, refuseAs: given.refuseAs })
  } satisfies ResolvedSessionIdentityOptions)
}

interface IssuerValues extends IssuerClaimValues {
  readonly issuer: string | ConstantIssuer | undefined
  readonly jwksUrl: string | undefined
  readonly algorithms: readonly Algorithm[] | undefined
}

interface PluginValues extends IssuerValues, CommonClaimValues {
  readonly issuers: readonly TrustedIssuer[] | undefined
}

function issuersOf (given: PluginValues, verify: 'jwks' | 'fastify-jwt'): readonly ResolvedIssuer[] {
  if (verify === 'fastify-jwt') {
    for (const name of ['jwksUrl', 'issuers'] as const) if (given[name] !== undefined) throw invalidOption(owner, `option "${name}" must not be given with verify: "fastify-jwt", which has its own key.`)
    return [Object.freeze({ rules: claimRulesOf(given.issuer, given, given, given.algorithms ?? null), keys: null })]
  }
  return given.issuers === undefined ? [publishingIssuer(given, given)] : severalIssuers(given.issuers, given)
}

function severalIssuers (issuers: readonly TrustedIssuer[], common: PluginValues): readonly ResolvedIssuer[] {
  for (const name of ['issuer', 'jwksUrl'] as const) if (common[name] !== undefined) throw invalidOption(owner, `option "${name}" must not be given with "issuers"; name it in one of them.`)
  const resolved = issuers.map((entry, index) => {
    const own = readOptions(`${owner}: issuers[${index}]`, entry, { issuer: issuerName, ...ofOneIssuer })
    const set = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined))
    return publishingIssuer({ ...common, ...set }, common)
  })
  const twice = resolved.find(({ rules }, index) => resolved.findIndex(other => other.rules.issuer === rules.issuer) !== index)
  if (twice !== undefined) throw invalidOption(owner, `option "issuers" must name each issuer once; received ${JSON.stringify(twice.rules.issuer)} twice.`)
  return resolved
}

function publishingIssuer (of: IssuerValues, common: CommonClaimValues): ResolvedIssuer {
  const { issuer, jwksUrl, algorithms } = of
  if (issuer === undefined) throw invalidOption(owner, 'option "issuer" is missing; it must be given with verify: "jwks", as the one accepted value of "iss", or "issuers" as a list of several.')
  if (typeof issuer === 'object') throw invalidOption(owner, 'option "issuer" must be a name with verify: "jwks", where each issuer has keys of its own; { always } is for verify: "fastify-jwt" and fromJwt().')
  if (jwksUrl === undefined && !canDiscoverFrom(issuer)) {
    throw invalidOption(owner, 'option "jwksUrl" is missing; ' +
      'it must be given when "issuer" is not an http or https URL without query and fragment, which keys can be discovered from. Tokens of an app of your own, whose key is with @fastify/jwt, want { issuer: { always: … } } or verify: "fastify-jwt".')
  }
  const location = Object.freeze(jwksUrl === undefined ? { discoverFrom: issuer } : { jwksUrl })
  return Object.freeze({
    // Which algorithm goes with which key is for the key to say; a shared secret goes with none.
    rules: claimRulesOf(issuer, of, common, algorithms ?? asymmetricAlgorithms),
    keys: Object.freeze({ location, algorithms: algorithms ?? null })
  })
}

function refuseBesides (input: object, allowed: readonly string[], where: string): void {
  for (const [name, value] of Object.entries(input)) {
    if (value !== undefined && !allowed.includes(name)) throw invalidOption(owner, `option "${name}" must not be given ${where}.`)
  }
}
