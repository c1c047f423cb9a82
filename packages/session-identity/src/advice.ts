import type { Identity, Sync, Unresolved } from '@orientor/session-contract/core'
import type { ResolvedSessionIdentityOptions } from './options.js'
import { owner } from './owner.js'

/** The part of a logger that is used. */
export interface AdviceLog {
  warn (facts: object, message: string): void
}

const noAudience = `${owner}: option "audience" is not set, so every token of this issuer is accepted, also one that is meant for ` +
  'another API, and an ID token of another client. Set "audience" to what "aud" says in the tokens of your API'
const noParties = `${owner}: a session cookie was accepted, and option "authorizedParties" is not set, so a token that was made for ` +
  'another site of this issuer is accepted too. Set "authorizedParties" to the origins of your own pages, or cookie: false if your ' +
  'clients send bearer tokens'

/** The warnings about option values that accept more than most applications want; each is logged once. */
export class Advice {
  readonly #options: ResolvedSessionIdentityOptions
  readonly #log: AdviceLog
  /** Issuers without `authorizedParties`; null stands for any issuer. */
  readonly #unlisted: ReadonlySet<string | null>
  #isCookieWatched: boolean

  constructor (options: ResolvedSessionIdentityOptions, log: AdviceLog) {
    this.#options = options
    this.#log = log
    this.#unlisted = new Set(options.issuers.filter(({ rules }) => rules.authorizedParties === null).map(({ rules }) => rules.issuer))
    this.#isCookieWatched = this.#unlisted.size > 0
  }

  /** Warns of issuers whose tokens are accepted for any audience. Clerk's session tokens name none. */
  onStart (): void {
    const issuers = this.#options.issuers
      .filter(({ rules, keys }) => keys !== null && rules.audience === null && rules.provider !== 'clerk')
      .map(({ rules }) => rules.issuer)
    if (issuers.length > 0) this.#log.warn({ issuers }, noAudience)
  }

  /** Warns of the first cookie that was accepted without a list of parties. Passes on what was found. */
  onCookie (found: Sync<Identity | Unresolved>): Sync<Identity | Unresolved> {
    if (!this.#isCookieWatched) return found
    return found instanceof Promise ? found.then(settled => this.#watch(settled)) : this.#watch(found)
  }

  #watch (found: Identity | Unresolved): Identity | Unresolved {
    if (found.kind === 'identity' && this.#isCookieWatched && (this.#unlisted.has(found.issuer) || this.#unlisted.has(null))) {
      this.#isCookieWatched = false
      this.#log.warn({ issuer: found.issuer }, noParties)
    }
    return found
  }
}
