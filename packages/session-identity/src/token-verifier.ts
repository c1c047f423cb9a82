import { anonymous, refused, type Clock, type Identity, type Sync, type Unresolved } from '@orientor/session-contract/core'
import { isOfClerk, isPending, tokenFlaw, unknownIssuer, validityOf, type ClaimRules } from './claims.js'
import { isCookieCounted } from './cross-site.js'
import { identityOfClaims } from './identity-of-claims.js'
import type { Patience } from './jwks-source.js'
import { notAToken, parseToken, type ParsedToken } from './parsed-token.js'
import type { SignerOf } from './signature-check.js'
import { TokenCache } from './token-cache.js'
import type { TokenPolicy } from './token-policy.js'
import type { VerifyingKey } from './verifying-key.js'

/** What a verifier is made of. */
export interface TokenVerifierOptions {
  /** One per issuer, in the order in which their cookies count; one with `rules.issuer` null stands for every issuer that has none of its own. */
  readonly policies: readonly TokenPolicy[]
  readonly clock: Clock
  /** Most verified tokens remembered, at least 2. */
  readonly maxTokens: number
  /** How long a token is believed before its signature is checked anew, in milliseconds. */
  readonly recheckAfterMs: number
  /** Path of the claim that says when the provider last changed the user; null: none. */
  readonly updatedAtClaim: readonly string[] | null
}

/**
 * Every token is counted once: `hits` (found verified), `verified` (checked and good), `pending` (good, but its session waits for
 * something), `refused`, or `unavailable` (no keys, or none of them its own, and newer ones not at hand). The cookies of one request
 * count as one token, and not at all when none of them is of an accepted issuer. `cachedTokens` is the present number of verified
 * tokens in use.
 */
export interface TokenVerifierStats {
  readonly hits: number
  readonly verified: number
  readonly pending: number
  readonly refused: number
  readonly unavailable: number
  readonly cachedTokens: number
}

/** Most signatures that are checked for the cookies of one request, which a client could otherwise make any number. */
const maxSignatures = 4

/**
 * Token → identity, or why not. Knows nothing of HTTP and Fastify. Verified tokens are remembered until they expire, so that a token
 * that was seen before costs a look-up; each use checks time and key again. Refused tokens are never remembered: what is wrong today
 * (a key not yet published, a time to come) may be right in a moment.
 *
 * The `iss` of a token that is not verified yet does one thing only: it selects the policy that the whole token is then held to,
 * `iss` included. As that choice depends on nothing but the token's text, the policies may share what is remembered.
 */
export class TokenVerifier {
  readonly #policies: readonly TokenPolicy[]
  readonly #byIssuer: ReadonlyMap<unknown, TokenPolicy>
  readonly #defaultPolicy: TokenPolicy | null
  readonly #clock: Clock
  readonly #recheckAfterMs: number
  readonly #updatedAtClaim: readonly string[] | null
  readonly #cache: TokenCache
  readonly #counts = { hits: 0, verified: 0, pending: 0, refused: 0, unavailable: 0 }

  constructor (options: TokenVerifierOptions) {
    this.#policies = options.policies
    this.#byIssuer = new Map(options.policies.flatMap(policy => policy.rules.issuer === null ? [] : [[policy.rules.issuer, policy]]))
    this.#defaultPolicy = options.policies.find(({ rules }) => rules.issuer === null || rules.isIssuerImplied) ?? null
    this.#clock = options.clock
    this.#recheckAfterMs = options.recheckAfterMs
    this.#updatedAtClaim = options.updatedAtClaim
    this.#cache = new TokenCache(options.maxTokens)
  }

  /**
   * Verifies a bearer token. Synchronous, and without a promise, for a token that was verified before and for one that is refused for its
   * form or claims. All requests that carry a token share one frozen identity.
   *
   * Never throws and never rejects for what it is given. Answers `refused` (`invalid_request` for what is no bearer token at all, or no
   * string; else `invalid_token`), `anonymous` for a session that is still pending, `unavailable` when there are no keys to check with, or
   * none that the token was signed with and newer ones cannot be had in time.
   *
   * @param mayWait - whether a token of an unknown key may wait, up to 2 s, for keys that are not fetched before a cooldown ends
   */
  identify (token: string, mayWait = false): Sync<Identity | Unresolved> {
    if (typeof token !== 'string') return this.#count(notAToken)
    const known = this.#known(token)
    if (known !== null) return known
    const parsed = parseToken(token)
    if (parsed.kind === 'refused') return this.#count(parsed)
    const policy = this.#policyOf(parsed)
    if (policy === null) return this.#count(refused('invalid_token', unknownIssuer))
    const found = this.#check(parsed, policy.rules, policy.signature(), patienceOf(mayWait))
    return found instanceof Promise ? found.then(settled => this.#count(settled)) : this.#count(found)
  }

  /**
   * Verifies the tokens that one request carries in cookies. Of the first issuer, in the order of the policies, that has any, the newest that is good counts,
   * by `iat`; at most four signatures are checked. Synchronous, and without a promise, where the newest was verified before or none needs a check.
   *
   * Never throws, never rejects, and refuses nothing: a cookie that is not good is no credentials, so the outcome is `anonymous` where none
   * is. It is `unavailable` where one may be good and there is no key to check it with.
   *
   * @param crossSiteOrigin - the origin of a request that another site may have caused: cookies count for issuers only whose `authorizedParties` name
   *   it; null: no such request
   * @param mayWait - as identify() has it
   */
  identifyCookies (tokens: readonly string[], crossSiteOrigin: string | null, mayWait = false): Sync<Identity | Unresolved> {
    if (tokens.length === 1 && crossSiteOrigin === null) {
      const known = this.#known(tokens[0]!)
      if (known !== null) return known
    }
    const first = this.#cookiesOfFirstIssuer(tokens, crossSiteOrigin)
    if (first === null) return anonymous
    const { tokens: parsed, policy: { rules, signature } } = first
    const nowMs = this.#clock.now()
    const candidates = parsed.filter(token => tokenFlaw(token, rules, nowMs) === null)
    if (candidates[0] === undefined) return this.#noGoodCookie()
    return this.#known(candidates[0].text) ?? this.#newestGood(candidates, rules, signature(), patienceOf(mayWait))
  }

  stats (): TokenVerifierStats {
    return Object.freeze({ ...this.#counts, cachedTokens: this.#cache.size })
  }

  #known (text: string): Identity | null {
    const known = this.#cache.get(text, this.#clock.now())
    if (known !== null) this.#counts.hits++
    return known
  }

  #policyOf ({ claims: { iss } }: ParsedToken): TokenPolicy | null {
    return this.#byIssuer.get(iss) ?? this.#defaultPolicy
  }

  /** The tokens of the first issuer that has any, the newest first; null: none is of an issuer whose cookies count on this request. */
  #cookiesOfFirstIssuer (texts: readonly string[], origin: string | null): { readonly policy: TokenPolicy, readonly tokens: readonly ParsedToken[] } | null {
    const parsed = texts.map(text => parseToken(text)).filter(token => token.kind === 'token')
    for (const policy of this.#policies) {
      if (!isCookieCounted(origin, policy.rules.authorizedParties)) continue
      const tokens = parsed.filter(token => this.#policyOf(token) === policy)
      if (tokens.length > 0) return { policy, tokens: tokens.sort((one, other) => issuedAt(other) - issuedAt(one)) }
    }
    return null
  }

  /**
   * The identity of the first of these tokens that is good. All are held against the keys at hand first: a cookie that another site set, or that a
   * newer key may have signed, keeps no good one waiting.
   */
  async #newestGood (tokens: readonly ParsedToken[], rules: ClaimRules, signerOf: SignerOf, patience: Patience): Promise<Identity | Unresolved> {
    let undecided: ParsedToken[] = []
    let checked = 0
    for (const token of tokens) {
      const known = this.#known(token.text)
      if (known !== null) return known
      if (checked === maxSignatures) break
      checked++
      const found = await this.#check(token, rules, signerOf, 'none')
      if (found.kind === 'identity' || found.kind === 'anonymous') return this.#count(found)
      if (found.kind === 'unavailable') undecided = [...undecided, token]
    }
    let unavailable: Unresolved | null = null
    for (const token of undecided) {
      const found = await this.#check(token, rules, signerOf, patience)
      if (found.kind === 'identity' || found.kind === 'anonymous') return this.#count(found)
      if (found.kind === 'unavailable') unavailable ??= found
    }
    return unavailable === null ? this.#noGoodCookie() : this.#count(unavailable)
  }

  #noGoodCookie (): Unresolved {
    this.#counts.refused++
    return anonymous
  }

  /** Checks a token that was not found. */
  #check (token: ParsedToken, rules: ClaimRules, signerOf: SignerOf, patience: Patience): Sync<Identity | Unresolved> {
    // Before the signature: a token that cannot be accepted costs no cryptography and fetches no keys.
    const flaw = tokenFlaw(token, rules, this.#clock.now())
    if (flaw !== null) return refused('invalid_token', flaw)
    const signer = signerOf(token, patience)
    return signer instanceof Promise ? signer.then(settled => this.#accept(token, rules, settled)) : this.#accept(token, rules, signer)
  }

  #accept (token: ParsedToken, rules: ClaimRules, signer: VerifyingKey | Unresolved): Identity | Unresolved {
    if (signer.kind !== 'key') return signer
    const nowMs = this.#clock.now()
    // Keys may have taken seconds to come.
    const flaw = tokenFlaw(token, rules, nowMs)
    if (flaw !== null) return refused('invalid_token', flaw)
    const { text, header, claims } = token
    if (isOfClerk(header, rules) && isPending(claims)) return anonymous
    const known = this.#cache.get(text, nowMs)
    if (known !== null) return known // Another request came with the token meanwhile.
    const identity = identityOfClaims(claims, rules, this.#updatedAtClaim)
    const { fromMs, untilMs } = validityOf(claims, rules)
    if (signer.trusted) this.#cache.set(text, { identity, key: signer, fromMs, untilMs: Math.min(untilMs, nowMs + this.#recheckAfterMs) })
    return identity
  }

  #count (found: Identity | Unresolved): Identity | Unresolved {
    if (found.kind === 'identity') this.#counts.verified++
    else if (found.kind === 'anonymous') this.#counts.pending++
    else if (found.kind === 'unavailable') this.#counts.unavailable++
    else this.#counts.refused++
    return found
  }
}

function patienceOf (mayWait: boolean): Patience {
  return mayWait ? 'cooldown' : 'load'
}

/** When a token says that it was issued, in seconds; one that does not say is older than any. */
function issuedAt ({ claims: { iat } }: ParsedToken): number {
  return typeof iat === 'number' ? iat : 0
}
