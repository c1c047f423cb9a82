import {
  clockObject, durationMs, flag, invalidOption, issuerFlaw, listOf, oneOf, optional, rule, systemClock, text, withDefault, type Clock, type OptionRule, type OptionRules
} from '@orientor/session-contract/core'
import type { ClaimRules } from './claims.js'
import { isClerkIssuer } from './clerk-issuer.js'
import { owner } from './owner.js'

/** The kind of token that `typ` names: a JWT as such, or an OAuth 2.0 access token (RFC 9068). */
export type TokenType = 'JWT' | 'at+jwt'

/** The provider whose rules tokens are held to besides those of the standards: Clerk's, or no other than the standards. */
export type Provider = 'clerk' | 'other'

/** An issuer that is the same for all tokens, which need not name it. */
export interface ConstantIssuer {
  readonly always: string
}

/** What is demanded of a token's header and claims, by one issuer. */
export interface IssuerClaimOptions {
  /** Accepted values of `audienceClaim`; a token must name one of them. Default: the audience is not looked at. */
  readonly audience?: string | readonly string[]
  /** Claim that names the audience of the token: its name, or its path as a list of names. Default is `aud`; Amazon Cognito writes `client_id`. */
  readonly audienceClaim?: string | readonly string[]
  /** Accepted values of `azp`, the party that the token was made for: an origin for Clerk, a client id elsewhere. Default: `azp` is not looked at. */
  readonly authorizedParties?: readonly string[]
  /**
   * The rules that tokens are held to besides the standards. `clerk`: Clerk's, about classes of tokens (`cat`), pending sessions
   * (`sts`) and machine subjects. `other`: none. Default: `clerk` for an issuer whose host is Clerk's and for a token whose `kid` begins
   * with `ins_`, else `other`.
   */
  readonly provider?: Provider
  /**
   * Accepted values of the header's `typ`, a media type; a token without it counts as `JWT`. Default is `JWT`, and `at+jwt` where `audience` is
   * set and the issuer is not Clerk, which signs the OAuth tokens of third parties with the same key. `at+jwt` needs `audience` (RFC 9068, section 4).
   */
  readonly tokenTypes?: readonly TokenType[]
  /** Claim that names the user: its name, or its path as a list of names. Its value may be text or an integer, which becomes decimal text. Default is `sub`, text only. */
  readonly subject?: string | readonly string[]
}

/** What is demanded of a token, whoever checked its signature. Times are in milliseconds. */
export interface ClaimOptions extends IssuerClaimOptions {
  /**
   * `iss` of the tokens, compared exactly. `{ always: 'my-app' }`: tokens need not name it, and none may name another; not where keys are looked up
   * by issuer. Default: any that names an issuer.
   */
  readonly issuer?: string | ConstantIssuer
  /** Claim that says when the provider last changed the user: its name, or its path as a list of names. Default: none. */
  readonly updatedAtClaim?: string | readonly string[]
  /** Whether a token must expire, by `exp`. Default is true. */
  readonly requireExpiry?: boolean
  /** How far the clocks of issuer and server may differ, 0 to 60000. Default is 5000. */
  readonly clockToleranceMs?: number
  /** Longest time from issue to expiry of a token, from 1000. Default is 86400000 (24 hours). */
  readonly maxTokenLifetimeMs?: number
  /** Time. Default is the clock of this process. */
  readonly clock?: Clock
}

/** IssuerClaimOptions as they are read. */
export interface IssuerClaimValues {
  readonly audience: readonly string[] | undefined
  readonly audienceClaim: readonly string[] | undefined
  readonly authorizedParties: readonly string[] | undefined
  readonly provider: Provider | undefined
  readonly tokenTypes: readonly TokenType[] | undefined
  readonly subject: readonly string[] | undefined
}

/** ClaimOptions as they are read. */
export interface ClaimOptionValues extends IssuerClaimValues {
  readonly issuer: string | ConstantIssuer | undefined
  readonly updatedAtClaim: readonly string[] | undefined
  readonly requireExpiry: boolean
  readonly clockToleranceMs: number
  readonly maxTokenLifetimeMs: number
  readonly clock: Clock
}

const texts = listOf(text, { min: 1 })
const textOrTexts: OptionRule<readonly string[]> = rule('a non-empty string or a non-empty list of such', input => texts.accept(typeof input === 'string' ? [input] : input))

/** An issuer, as `iss` names it. */
export const issuerName: OptionRule<string> = rule('a non-empty string without white space', input => issuerFlaw(input) === null ? input as string : undefined)

const issuerOrConstant: OptionRule<string | ConstantIssuer> = rule(`${issuerName.must}, or { always: 'such a string' }`, input => {
  if (typeof input !== 'object' || input === null) return issuerName.accept(input)
  const { always, ...others } = input as { always?: unknown }
  const name = issuerName.accept(always)
  return name === undefined || Object.keys(others).length > 0 ? undefined : Object.freeze({ always: name })
})

/** How IssuerClaimOptions are read. */
export const issuerClaimRules: OptionRules<IssuerClaimValues> = {
  audience: optional(textOrTexts),
  audienceClaim: optional(textOrTexts),
  authorizedParties: optional(texts),
  provider: optional(oneOf(['clerk', 'other'])),
  tokenTypes: optional(listOf(oneOf(['JWT', 'at+jwt']), { min: 1 })),
  subject: optional(textOrTexts)
}

/** How ClaimOptions are read. */
export const claimOptionRules: OptionRules<ClaimOptionValues> = {
  ...issuerClaimRules,
  issuer: optional(issuerOrConstant),
  updatedAtClaim: optional(textOrTexts),
  requireExpiry: withDefault(flag, true),
  clockToleranceMs: withDefault(durationMs({ min: 0, max: 60_000 }), 5000),
  maxTokenLifetimeMs: withDefault(durationMs({ min: 1000, max: Number.MAX_SAFE_INTEGER }), 86_400_000),
  clock: withDefault(clockObject, systemClock)
}

/** What the options of the whole plugin demand of any issuer's tokens. */
export type CommonClaimValues = Pick<ClaimOptionValues, 'requireExpiry' | 'clockToleranceMs' | 'maxTokenLifetimeMs'>

/**
 * What the options demand of a token.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION for `tokenTypes` with `at+jwt` where no audience is set
 */
export function claimRulesOf (
  issuer: string | ConstantIssuer | undefined, of: IssuerClaimValues, common: CommonClaimValues, algorithms: readonly string[] | null
): ClaimRules {
  if (of.tokenTypes?.includes('at+jwt') === true && of.audience === undefined) {
    throw invalidOption(owner, 'option "audience" is missing; it must be given where "tokenTypes" names "at+jwt", as such a token counts only for whom it is meant (RFC 9068, section 4).')
  }
  const name = typeof issuer === 'object' ? issuer.always : issuer ?? null
  const provider = of.provider ?? (name !== null && isClerkIssuer(name) ? 'clerk' : null)
  // Elsewhere a client id may be a URL with a path; for Clerk it is an origin as browsers send it, and nothing else would ever be equal to it.
  const wrong = provider === 'clerk' ? of.authorizedParties?.find(party => URL.canParse(party) && new URL(party).origin !== party) : undefined
  if (wrong !== undefined) {
    throw invalidOption(owner, `option "authorizedParties" must name origins as browsers send them, without a path or a slash at the end; received ${JSON.stringify(wrong)}. ` +
      `Write ${JSON.stringify(new URL(wrong).origin)}.`)
  }
  return Object.freeze({
    issuer: name,
    isIssuerImplied: typeof issuer === 'object',
    audience: of.audience ?? null,
    audienceClaim: of.audienceClaim ?? ['aud'],
    authorizedParties: of.authorizedParties ?? null,
    provider,
    tokenTypes: of.tokenTypes ?? null,
    subject: of.subject ?? null,
    algorithms,
    requireExpiry: common.requireExpiry,
    clockToleranceMs: common.clockToleranceMs,
    maxTokenLifetimeMs: common.maxTokenLifetimeMs
  })
}
