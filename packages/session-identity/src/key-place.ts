/** Where the keys of an issuer are: at a URL that the operator gave, or where the issuer itself says. */
export type KeyLocation = { readonly jwksUrl: string } | { readonly discoverFrom: string }

/** Finds out where keys are to be fetched from. */
export interface KeyPlace {
  /** What is asked first. */
  readonly url: string
  /** @throws why the place cannot be told */
  locate (signal: AbortSignal): Promise<LocatedKeys>
  /** Says that the keys could not be had from where they were said to be. */
  doubt (): void
}

/** Where keys are to be fetched from. */
export interface LocatedKeys {
  readonly url: string
  /** Why this could not be discovered anew: it is what was discovered last. Null when it is as new as it has to be. */
  readonly failure: Error | null
}

/** The place that the operator gave. */
export function fixedPlace (url: string): KeyPlace {
  return { url, locate: async () => ({ url, failure: null }), doubt: () => {} }
}
