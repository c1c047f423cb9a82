import {
  clockObject, durationMs, issuerFlaw, listOf, optional, rule, systemClock, text, withDefault, type Clock, type OptionRule, type OptionRules
} from '@orientor/session-contract/core'
import type { ClaimRules } from './claims.js'

/** What is demanded of the claims, whoever checked the signature. Times are in milliseconds. */
export interface ClaimOptions {
  /** `iss` of the tokens, compared exactly. Default: any that names an issuer. */
  readonly issuer?: string
  /** Accepted values of `aud`; a token must name one of them. Default: `aud` is not looked at. */
  readonly audience?: string | readonly string[]
  /** Accepted values of `azp`, the origins that tokens are made for; a token must have one of them. Default: `azp` is not looked at. */
  readonly authorizedParties?: readonly string[]
  /** Claim that says when the provider last changed the user: its name, or its path as a list of names. Default: none. */
  readonly updatedAtClaim?: string | readonly string[]
  /** How far the clocks of issuer and server may differ, 0 to 60000. Default is 5000. */
  readonly clockToleranceMs?: number
  /** Longest time from issue to expiry of a token, 1000 to 2147483647. Default is 86400000 (24 hours). */
  readonly maxTokenLifetimeMs?: number
  /** Time. Default is the clock of this process. */
  readonly clock?: Clock
}

/** ClaimOptions as they are read. */
export interface ClaimOptionValues {
  readonly issuer: string | undefined
  readonly audience: readonly string[] | undefined
  readonly authorizedParties: readonly string[] | undefined
  readonly updatedAtClaim: readonly string[] | undefined
  readonly clockToleranceMs: number
  readonly maxTokenLifetimeMs: number
  readonly clock: Clock
}

const texts = listOf(text, { min: 1 })
const textOrTexts: OptionRule<readonly string[]> = rule('a non-empty string or a non-empty list of such', input => texts.accept(typeof input === 'string' ? [input] : input))

/** An issuer, as `iss` names it. */
export const issuerName: OptionRule<string> = rule('a non-empty string without white space', input => issuerFlaw(input) === null ? input as string : undefined)

/** How ClaimOptions are read. */
export const claimOptionRules: OptionRules<ClaimOptionValues> = {
  issuer: optional(issuerName),
  audience: optional(textOrTexts),
  authorizedParties: optional(texts),
  updatedAtClaim: optional(textOrTexts),
  clockToleranceMs: withDefault(durationMs({ min: 0, max: 60_000 }), 5000),
  maxTokenLifetimeMs: withDefault(durationMs({ min: 1000 }), 86_400_000),
  clock: withDefault(clockObject, systemClock)
}

/** What the options demand of a token. */
export function claimRulesOf (options: ClaimOptionValues, { algorithms, expiryRequired }: { readonly algorithms: readonly string[] | undefined, readonly expiryRequired: boolean }): ClaimRules {
  return {
    issuer: options.issuer ?? null,
    audience: options.audience ?? null,
    authorizedParties: options.authorizedParties ?? null,
    algorithms: algorithms ?? null,
    expiryRequired,
    clockToleranceMs: options.clockToleranceMs,
    maxTokenLifetimeMs: options.maxTokenLifetimeMs
  }
}
