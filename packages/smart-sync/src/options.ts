import {
  callable, clockObject, durationMs, flag, invalidOption, listOf, objectWith, optional, readOptions, rule, secretText,
  systemClock, text, withDefault, type Clock, type OptionRule, type PoolLike
} from '@orientor/session-contract/core'
import { defaultClaimNames, type ClaimNames } from './claims-profile.js'
import type { ClerkProviderOptions } from './clerk/clerk-provider.js'
import type { IdentityProvider } from './identity-provider.js'
import type { ParseProfile } from './sync-outcome.js'
import { checkUsersTable, usersTableRules, type UsersTable, type UsersTableOptions } from './users-table.js'

/** Options of the profiles that come from Clerk's Backend API. */
export interface ClerkOptions {
  /** Secret key of the instance (`sk_…`). Never logged. */
  readonly secretKey: string
  /** Base of the Backend API, http or https, with or without `/v1`. Default is `https://api.clerk.com`. */
  readonly apiUrl?: string
  /**
   * Whose users are asked for: `iss` of the tokens. Users of other issuers get their profile from the claims. Default:
   * everybody's.
   */
  readonly issuer?: string
  /** Sends requests. Default is the global `fetch`. */
  readonly fetch?: typeof fetch
}

/** Options of the plugin; all may be left out. */
export interface SmartSyncOptions extends UsersTableOptions {
  /** The `pg` pool. Default is `fastify.pg.pool`, looked up when the server becomes ready. */
  readonly pool?: PoolLike
  /** The source of profiles. Not together with `clerk`. Without either they come from the claims of the token. */
  readonly provider?: IdentityProvider
  /** Profiles come from Clerk. */
  readonly clerk?: ClerkOptions
  /**
   * The time for which a row is taken as it is while the provider does not date the user, in milliseconds. Default
   * is 3600000 (one hour).
   */
  readonly forceSyncAfterMs?: number
  /** Whether the tables are brought up to date at the start. Default is true; with false they must be there. */
  readonly migrate?: boolean
  /** Names of the claims; of several the first that the token has. What is left out keeps its default. */
  readonly claims?: Partial<ClaimNames>
  /** Makes `sessionUser.profile` of the column `profile_data`. Default: the JSON object as it is. */
  readonly parseProfile?: ParseProfile
  /** Time. Default is the system's. */
  readonly clock?: Clock
  /** Randomness of the pauses between retries, from 0 to below 1. Default is `Math.random`. */
  readonly random?: () => number
}

/** The options, complete. */
export interface ResolvedOptions extends UsersTable {
  readonly pool: PoolLike | undefined
  readonly provider: IdentityProvider | undefined
  readonly clerk: Omit<ClerkProviderOptions, 'clock'> | undefined
  readonly forceSyncAfterMs: number
  readonly migrate: boolean
  readonly claims: ClaimNames
  readonly parseProfile: ParseProfile | undefined
  readonly clock: Clock
  readonly random: () => number
}

const owner = '@orientor/smart-sync'
const names = listOf(text, { min: 1 })

const headerText: OptionRule<string> = rule('a string of visible ASCII characters', input => {
  return typeof input === 'string' && /^[\x21-\x7e]+$/.test(input) ? secretText.accept(input) : undefined
}, { secret: true })

const baseUrl: OptionRule<string> = rule('an http or https URL without credentials, query and fragment', input => {
  if (typeof input !== 'string' || !URL.canParse(input)) return undefined
  const { protocol, username, password, search, hash } = new URL(input)
  return ['http:', 'https:'].includes(protocol) && username + password + search + hash === '' ? input : undefined
})

type GivenClerk = Omit<ClerkProviderOptions, 'clock'>
type ReadClerk = Omit<GivenClerk, 'issuer'> & { readonly issuer: string | undefined }

const clerk: OptionRule<GivenClerk> = rule('an object { secretKey, apiUrl?, issuer?, fetch? }', input => {
  const read = readOptions<ReadClerk>(`${owner}: clerk`, input, {
    secretKey: headerText,
    apiUrl: withDefault(baseUrl, 'https://api.clerk.com'),
    issuer: optional(text),
    fetch: withDefault(callable<typeof fetch>('(url, init) => Promise<Response>'), (...request) => fetch(...request))
  })
  return { ...read, issuer: read.issuer ?? null }
})

const claims: OptionRule<ClaimNames> = rule('an object with any of email, firstName, lastName and updatedAt', input => {
  return readOptions<ClaimNames>(`${owner}: claims`, input, {
    email: withDefault(names, defaultClaimNames.email),
    firstName: withDefault(names, defaultClaimNames.firstName),
    lastName: withDefault(names, defaultClaimNames.lastName),
    updatedAt: withDefault(names, defaultClaimNames.updatedAt)
  })
})

/**
 * Reads the options.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function resolveOptions (input: unknown): ResolvedOptions {
  const options = readOptions<ResolvedOptions>(owner, input, {
    pool: optional(objectWith<PoolLike>('a pg pool', ['query', 'connect'])),
    provider: optional(
      objectWith<IdentityProvider>('an identity provider with serves() and lookUp()', ['serves', 'lookUp'])
    ),
    clerk: optional(clerk),
    forceSyncAfterMs: withDefault(durationMs({ max: Number.MAX_SAFE_INTEGER }), 3_600_000),
    migrate: withDefault(flag, true),
    ...usersTableRules,
    claims: withDefault(claims, defaultClaimNames),
    parseProfile: optional(callable<ParseProfile>('(data) => profile')),
    clock: withDefault(clockObject, systemClock),
    random: withDefault(callable<() => number>('() => number'), Math.random)
  })
  checkUsersTable(options)
  if (options.provider !== undefined && options.clerk !== undefined) {
    throw invalidOption(owner, 'the options "provider" and "clerk" exclude each other; received both.')
  }
  return options
}
