import type { Identity, Sync, Unresolved } from '@orientor/session-contract/core'
import type { ResolvedSessionIdentityOptions } from './options.js'
import { owner } from './owner.js'

/** The part of a logger that is used. */
export interface AdviceLog {
  warn (facts: object, message: string): void
}

/** The warnings about options that are allowed and leave more in than most applications want, each logged once. */
export class Advice {
  readonly #options: ResolvedSessionIdentityOptions
  readonly #log: AdviceLog
  #isCookieWatched: boolean

  constructor (options: ResolvedSessionIdentityOptions, log: AdviceLog) {
    this.#options = options
    this.#log = log
    this.#isCookieWatched = options.issuers.some(({ rules }) => rules.authorizedParties === null)
  }

  /** Warns of issuers whose tokens are accepted whomever they are meant for. Clerk's session tokens name no audience. */
  onStart (): void {
    const issuers = this.#options.issuers.filter(({ rules, keys }) => keys !== null && rules.audience === null && rules.provider !== 'clerk').map(({ rules }) => rules.issuer)
    if (issuers.length === 0) return
    this.#log.warn({ issuers }, `${owner}: option "audience" is not set, so any token of this issuer is accepted, whomever it is meant for, ID tokens of other clients among them. Set "audience" to what "aud" of your API's tokens says`)
  }

  /** Warns of the first cookie that was accepted without a list of parties. Passes on what was found. */
  onCookie (found: Sync<Identity | Unresolved>): Sync<Identity | Unresolved> {
    if (!this.#isCookieWatched) return found
    if (found instanceof Promise) return found.then(settled => this.#watch(settled))
    return this.#watch(found)
  }

  #watch (found: Identity | Unresolved): Identity | Unresolved {
    if (found.kind !== 'identity' || !this.#isCookieWatched) return found
    const { rules } = this.#options.issuers.find(({ rules }) => rules.issuer === found.issuer) ?? this.#options.issuers[0]!
    if (rules.authorizedParties === null) {
      this.#isCookieWatched = false
      this.#log.warn({ issuer: found.issuer }, `${owner}: a session cookie was accepted, and option "authorizedParties" is not set, so a token that was made for another site of this issuer is accepted too. Set "authorizedParties" to the origins of your own pages, or cookie: false if your clients send bearer tokens`)
    }
    return found
  }
}
