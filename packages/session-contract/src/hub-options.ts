import { oneOf, optional, readOptions, type OptionRules } from './option-rules.js'

/** Which routes refuse bad credentials: those that require a session (`required`), or all but those with `session: false` (`always`). */
export type RefuseRule = 'required' | 'always'

/** How a refusal is answered: as a problem document (RFC 9457), or as an error that goes through the application's error handler. */
export type RefusalFormat = 'problem' | 'error'

/** How the hub of a scope answers where a request may not go on. A child scope inherits what it does not set. */
export interface SessionHubOptions {
  /**
   * Which routes refuse credentials that cannot be read (400) or are not accepted (401). `required`, the default: only those that require a session;
   * elsewhere the request goes on without a user. `always`: every route but those with `session: false`. An inactive user, an outage or a defect
   * refuses no route that requires no session under either.
   */
  readonly refuse?: RefuseRule | undefined
  /**
   * How a refusal is answered. `problem`, the default: as a problem document (RFC 9457). `error`: as an error with `statusCode`, `code` and
   * `headers`, by the application's error handler.
   */
  readonly refuseAs?: RefusalFormat | undefined
}

/** The options as they were given; undefined: inherited, or the default. */
export interface HubOptionValues {
  readonly refuse: RefuseRule | undefined
  readonly refuseAs: RefusalFormat | undefined
}

/** How SessionHubOptions are read, also by plugins that pass them through. */
export const hubOptionRules: OptionRules<HubOptionValues> = {
  refuse: optional(oneOf(['required', 'always'])),
  refuseAs: optional(oneOf(['problem', 'error']))
}

/**
 * Reads the options of the hub.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION
 */
export function readHubOptions (input: unknown): HubOptionValues {
  return readOptions('sessionHub()', input, hubOptionRules)
}
