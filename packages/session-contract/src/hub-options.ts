import { oneOf, optional, readOptions, type OptionRules } from './option-rules.js'

/** Which routes refuse bad credentials: those that require a session (`required`), or all but those with `session: false` (`always`). */
export type RefuseRule = 'required' | 'always'

/** The form of a refusal: a problem document (RFC 9457), or an error that goes through the application's error handler. */
export type RefusalFormat = 'problem' | 'error'

/** Options of the hub of a scope: how it answers where a request may not go on. A child scope inherits what it does not set. */
export interface SessionHubOptions {
  /**
   * Which routes refuse credentials that cannot be read (400) or are not accepted (401). `required`, the default: only those that
   * require a session; elsewhere the request goes on without a user. `always`: every route but those with `session: false`. An
   * inactive user, an outage or a defect refuses no route without `required: true` under either.
   */
  readonly refuse?: RefuseRule | undefined
  /**
   * The form of a refusal. `problem`, the default: a problem document (RFC 9457). `error`: an error with `statusCode`, `code` and
   * `headers`, for the application's error handler.
   */
  readonly refuseAs?: RefusalFormat | undefined
}

/** SessionHubOptions as they were given; undefined: inherited, or the default. */
export type HubOptionValues = Required<SessionHubOptions>

/** The options with every value set. */
export type HubConfig = { readonly [K in keyof SessionHubOptions]-?: NonNullable<SessionHubOptions[K]> }

/** The values where no scope sets another. */
export const hubDefaults: HubConfig = Object.freeze({ refuse: 'required', refuseAs: 'problem' })

/** The rules that SessionHubOptions are read by, also by plugins that pass them through. */
export const hubOptionRules: OptionRules<HubOptionValues> = {
  refuse: optional(oneOf(['required', 'always'])),
  refuseAs: optional(oneOf(['problem', 'error']))
}

/** The names of the options. */
export const hubOptionNames: ReadonlyArray<keyof SessionHubOptions> = Object.keys(hubOptionRules) as Array<keyof SessionHubOptions>

/**
 * Reads the options of the hub.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION
 */
export function readHubOptions (input: unknown): HubOptionValues {
  return readOptions('sessionHub()', input, hubOptionRules)
}
