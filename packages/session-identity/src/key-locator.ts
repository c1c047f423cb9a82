/** The place of an issuer's keys: a URL that the operator gave, or the issuer to discover it from. */
export type KeyLocation = { readonly jwksUrl: string } | { readonly discoverFrom: string }

/** Finds the URL that keys are to be fetched from. */
export interface KeyLocator {
  /** URL of the first request, for messages. */
  readonly firstUrl: string
  /** @throws when the URL of the keys cannot be discovered */
  locate (signal: AbortSignal): Promise<LocatedKeys>
  /** Makes the next locate() discover anew, as the keys could not be loaded from where they were said to be. */
  invalidate (): void
}

/** The URL that keys are to be fetched from. */
export interface LocatedKeys {
  readonly url: string
  /** Why this could not be discovered anew: it is what was discovered last. Null when it is as new as it has to be. */
  readonly failure: Error | null
}

/** The locator of keys whose URL the operator gave. */
export function fixedLocator (url: string): KeyLocator {
  return { firstUrl: url, locate: async () => ({ url, failure: null }), invalidate: () => {} }
}
