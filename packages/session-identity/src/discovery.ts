import { describe, type Clock } from '@orientor/session-contract/core'
import { fetchJson, UnexpectedStatus, type Fetch } from './fetch-json.js'
import type { KeyLocator, LocatedKeys } from './key-locator.js'
import { isPrivateHost, type Lookup } from './private-host.js'
import { isWebUrl } from './web-url.js'
import { withTimeout } from './with-timeout.js'

/** Settings of a discovery. */
export interface DiscoveryOptions {
  /** `iss`, and the URL that discovery starts from. */
  readonly issuer: string
  readonly fetch: Fetch
  /** Finds the addresses of the host that a document names; null: the name alone is judged. */
  readonly lookup: Lookup | null
  readonly clock: Clock
  /** Longest time to discover anew what is known, in milliseconds. */
  readonly timeoutMs: number
  /** Largest document, in bytes. */
  readonly maxBytes: number
  /** How long what was discovered is used without a question, in milliseconds. */
  readonly refreshAfterMs: number
  /** How long it is used while it cannot be discovered anew, in milliseconds. */
  readonly keepForMs: number
}

/**
 * The locator of keys that asks the issuer (OpenID Connect Discovery 1.0, section 4), and takes `/.well-known/jwks.json` below it
 * where the issuer publishes no document (404). The URL is remembered, and asked for again when it is old or the keys could not be
 * loaded from it.
 */
export class Discovery implements KeyLocator {
  readonly firstUrl: string
  readonly #options: DiscoveryOptions
  #found: { readonly url: string, readonly atMs: number } | null = null
  #isInvalidated = false

  constructor (options: DiscoveryOptions) {
    this.#options = options
    this.firstUrl = `${baseOf(options.issuer)}/.well-known/openid-configuration`
  }

  /**
   * What is known, or what is discovered now.
   *
   * @throws why nothing can be discovered, when nothing was before or it is too old
   */
  async locate (signal: AbortSignal): Promise<LocatedKeys> {
    const { clock, timeoutMs, refreshAfterMs, keepForMs } = this.#options
    const found = this.#found
    if (found === null) return { url: await this.#discover(signal), failure: null }
    const ageMs = clock.monotonic() - found.atMs
    if (ageMs < refreshAfterMs && !this.#isInvalidated) return { url: found.url, failure: null }
    try {
      const anew = async (ended: AbortSignal): Promise<string> => await this.#discover(AbortSignal.any([signal, ended]))
      return { url: await withTimeout(clock, timeoutMs, anew), failure: null }
    } catch (cause) {
      if (ageMs >= keepForMs) throw cause
      return { url: found.url, failure: cause instanceof Error ? cause : new Error('unknown failure', { cause }) }
    }
  }

  invalidate (): void {
    this.#isInvalidated = true
  }

  async #discover (signal: AbortSignal): Promise<string> {
    const { issuer, lookup, clock } = this.#options
    const document = await this.#document(signal)
    const url = document === null ? `${baseOf(issuer)}/.well-known/jwks.json` : await jwksUrlIn(document.content, issuer, lookup)
    if (!signal.aborted) {
      this.#found = { url, atMs: clock.monotonic() }
      this.#isInvalidated = false
    }
    return url
  }

  /** What the issuer publishes of itself; null when it publishes nothing. */
  async #document (signal: AbortSignal): Promise<{ readonly content: unknown } | null> {
    const { fetch, maxBytes } = this.#options
    try {
      return { content: await fetchJson(this.firstUrl, { fetch, accept: 'application/json', maxBytes, signal }) }
    } catch (error) {
      if (error instanceof UnexpectedStatus && error.status === 404) return null
      throw error
    }
  }
}

/**
 * Whether discovery can start here: at a web URL without query and fragment (OpenID Connect Discovery 1.0, section 2), as a path is
 * added to it.
 */
export function canDiscoverFrom (issuer: string): boolean {
  return isWebUrl(issuer) && !/[?#]/.test(issuer)
}

function baseOf (issuer: string): string {
  return issuer.replace(/\/+$/, '')
}

/**
 * The `jwks_uri` of a document, held to the rules: the document is the issuer's own (Discovery 1.0, section 4.3), and the URL is https
 * and in no private network, unless the issuer's own URL is http, or in one.
 */
async function jwksUrlIn (document: unknown, issuer: string, lookup: Lookup | null): Promise<string> {
  const { issuer: named, jwks_uri: url } = Object(document) as Partial<Record<'issuer' | 'jwks_uri', unknown>>
  if (named !== issuer) {
    throw new Error(`it describes the issuer ${shown(named)}, and must describe exactly ${shown(issuer)}; ` +
      'name the issuer as it does, or give its keys as "jwksUrl"')
  }
  const own = new URL(issuer)
  if (!isWebUrl(url) || (new URL(url).protocol !== 'https:' && own.protocol === 'https:')) {
    throw new Error(`its "jwks_uri" must be an https URL without user name and password; received ${shown(url)}`)
  }
  const { hostname } = new URL(url)
  const isInside = hostname !== own.hostname && await isPrivateHost(hostname, lookup, 'some')
  if (isInside && !await isPrivateHost(own.hostname, lookup, 'every')) {
    throw new Error('its "jwks_uri" must not be in a private network, as the issuer is not; ' +
      `received ${shown(url)}; if it is right, give it as "jwksUrl"`)
  }
  return url
}

function shown (value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 200)) : describe(value, false)
}
