import { anonymous, refused, type Clock, type Identity, type RefusedOutcome, type Sync, type Unresolved } from '@orientor/session-contract/core'
import { claimsFlaw, headerFlaw, isPending, validityOf } from './claims.js'
import { identityOfClaims } from './identity-of-claims.js'
import { parseToken, type ParsedToken } from './parsed-token.js'
import { TokenCache } from './token-cache.js'
import type { TokenPolicy } from './token-policy.js'
import type { VerifyingKey } from './verifying-key.js'

/** What a verifier is made of. */
export interface TokenVerifierOptions {
  /** One per issuer; one with `rules.issuer` null stands for every issuer that has none of its own. */
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
 * something), `refused`, or `unavailable` (no keys). `cachedTokens` is the present number of verified tokens in use.
 */
export interface TokenVerifierStats {
  readonly hits: number
  readonly verified: number
  readonly pending: number
  readonly refused: number
  readonly unavailable: number
  readonly cachedTokens: number
}

const unknownIssuer: RefusedOutcome = refused('invalid_token', 'The issuer of the token is not accepted')

/**
 * Token → identity, or why not. Knows nothing of HTTP and Fastify. Verified tokens are remembered until they expire, so that a token
 * that was seen before costs a look-up; each use checks time and key again. Refused tokens are never remembered: what is wrong today
 * (a key not yet published, a time to come) may be right in a moment.
 *
 * The `iss` of a token that is not verified yet does one thing only: it selects the policy that the whole token is then held to,
 * `iss` included. As that choice depends on nothing but the token's text, the policies may share what is remembered.
 */
export class TokenVerifier {
  readonly #policies: ReadonlyMap<unknown, TokenPolicy>
  readonly #anyIssuer: TokenPolicy | null
  readonly #clock: Clock
  readonly #recheckAfterMs: number
  readonly #updatedAtClaim: readonly string[] | null
  readonly #cache: TokenCache
  readonly #counts = { hits: 0, verified: 0, pending: 0, refused: 0, unavailable: 0 }

  constructor (options: TokenVerifierOptions) {
    this.#policies = new Map(options.policies.flatMap(policy => policy.rules.issuer === null ? [] : [[policy.rules.issuer, policy]]))
    this.#anyIssuer = options.policies.find(policy => policy.rules.issuer === null) ?? null
    this.#clock = options.clock
    this.#recheckAfterMs = options.recheckAfterMs
    this.#updatedAtClaim = options.updatedAtClaim
    this.#cache = new TokenCache(options.maxTokens)
  }

  /**
   * Verifies a token. Synchronous, and without a promise, for a token that was verified before and for one that is refused for its
   * form or claims. All requests that carry a token share one frozen identity.
   *
   * Never throws and never rejects for what a token holds. Answers `refused` (`invalid_request` for what is no bearer token at all,
   * else `invalid_token`), `anonymous` for a session that is still pending, `unavailable` when there are no keys to check with or
   * none that the token was signed with, and newer ones cannot be had in time.
   *
   * @param mayWait - whether a token of an unknown key may wait up to 2 s for keys that are not fetched before a cooldown ends
   */
  identify (token: string, mayWait = false): Sync<Identity | Unresolved> {
    const known = this.#cache.get(token, this.#clock.now())
    if (known === null) return this.#verify(token, mayWait)
    this.#counts.hits++
    return known
  }

  stats (): TokenVerifierStats {
    return Object.freeze({ ...this.#counts, cachedTokens: this.#cache.size })
  }

  #verify (text: string, mayWait: boolean): Sync<Identity | Unresolved> {
    const token = parseToken(text)
    if (token.kind === 'refused') return this.#count(token)
    const policy = this.#policies.get(token.claims['iss']) ?? this.#anyIssuer
    if (policy === null) return this.#count(unknownIssuer)
    // Before the signature: a token that cannot be accepted costs no cryptography and fetches no keys.
    const flaw = headerFlaw(token.header, policy.rules) ?? claimsFlaw(token.claims, policy.rules, this.#clock.now())
    if (flaw !== null) return this.#count(refused('invalid_token', flaw))
    const signer = policy.signature(token, mayWait)
    if (!(signer instanceof Promise)) return this.#count(this.#accept(token, policy, signer))
    return signer.then(settled => this.#count(this.#accept(token, policy, settled)))
  }

  #accept ({ text, claims }: ParsedToken, { rules }: TokenPolicy, signer: VerifyingKey | Unresolved): Identity | Unresolved {
    if (signer.kind !== 'key') return signer
    const nowMs = this.#clock.now()
    // Keys may have taken seconds to come.
    const flaw = claimsFlaw(claims, rules, nowMs)
    if (flaw !== null) return refused('invalid_token', flaw)
    if (isPending(claims)) return anonymous
    const known = this.#cache.get(text, nowMs)
    if (known !== null) return known // Another request came with the token meanwhile.
    const identity = identityOfClaims(claims, this.#updatedAtClaim)
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
