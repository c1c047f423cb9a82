import {
  callable, clockObject, durationMs, flag, integer, invalidOption, listOf, objectWith, oneOf, optional, readOptions,
  rule, secretText, systemClock, text, withDefault, type Clock, type OptionRule, type PoolLike
} from '@orientor/session-contract/core'
import { defaultClaimNames, type ClaimNames } from './claims-profile.js'
import type { ClerkQuota } from './clerk/clerk-api.js'
import type { ClerkProviderOptions } from './clerk/clerk-provider.js'
import type { IdentityProvider } from './identity-provider.js'
import { issuerText } from './issuer-text.js'
import type { ParseProfile } from './user-record.js'
import type { DeletionPolicy } from './user-store.js'
import { checkUsersTable, usersTableRules, type UsersTable, type UsersTableOptions } from './users-table.js'
import {
  completeWebhooks, webhooksRule, type GivenWebhooks, type WebhooksConfig, type WebhooksOptions
} from './webhooks-options.js'

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
  /**
   * The most requests that this instance sends in any window of time. Default is 800 per 10 seconds, and 80 with a
   * development key (`sk_test_…`): four fifths of what Clerk takes, which all instances share: give each its part.
   */
  readonly quota?: ClerkQuota
}

/** Options of the plugin; all may be left out. */
export interface SmartSyncOptions extends UsersTableOptions {
  /** The `pg` pool. Default is `fastify.pg.pool`, looked up when the server becomes ready. */
  readonly pool?: PoolLike
  /** The source of profiles. Not together with `clerk`. Without either they come from the claims of the token. */
  readonly provider?: IdentityProvider
  /** Profiles come from Clerk. */
  readonly clerk?: ClerkOptions
  /** Webhooks of Clerk, which a route of their own takes. Default: no route. */
  readonly webhooks?: WebhooksOptions
  /**
   * The time for which a row is taken as it is while the provider does not date the user, in milliseconds. Default
   * is 3600000 (one hour).
   */
  readonly forceSyncAfterMs?: number
  /**
   * The fate of the row of a user who was deleted at the provider: `deactivate` marks it (`deleted_at`) and keeps
   * it with its personal data, `delete` removes it. The user is refused with 401 under both, for good. Default is
   * `deactivate`.
   */
  readonly deletionPolicy?: DeletionPolicy
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
  readonly webhooks: WebhooksConfig | undefined
  readonly forceSyncAfterMs: number
  readonly deletionPolicy: DeletionPolicy
  readonly migrate: boolean
  readonly claims: ClaimNames
  readonly parseProfile: ParseProfile | undefined
  readonly clock: Clock
  readonly random: () => number
}

/** The options as they are read, before each is completed by the others. */
interface ReadOptions extends Omit<ResolvedOptions, 'webhooks'> {
  readonly webhooks: GivenWebhooks | undefined
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

const quota: OptionRule<ClerkQuota> = rule('an object { maxRequests?, windowMs? }', input => {
  return readOptions<ClerkQuota>(`${owner}: clerk: quota`, input, {
    maxRequests: optional(integer({ min: 1, max: 100_000 })),
    windowMs: optional(durationMs())
  })
})

const clerk: OptionRule<GivenClerk> = rule('an object { secretKey, apiUrl?, issuer?, quota?, fetch? }', input => {
  const read = readOptions<ReadClerk>(`${owner}: clerk`, input, {
    secretKey: headerText,
    apiUrl: withDefault(baseUrl, 'https://api.clerk.com'),
    issuer: optional(issuerText),
    quota: optional(quota),
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
  const options = readOptions<ReadOptions>(owner, input, {
    pool: optional(objectWith<PoolLike>('a pg pool', ['query', 'connect'])),
    provider: optional(
      objectWith<IdentityProvider>('an identity provider with serves() and lookUp()', ['serves', 'lookUp'])
    ),
    clerk: optional(clerk),
    webhooks: optional(webhooksRule),
    forceSyncAfterMs: withDefault(durationMs({ max: Number.MAX_SAFE_INTEGER }), 3_600_000),
    deletionPolicy: withDefault(oneOf(['deactivate', 'delete']), 'deactivate'),
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
  const { webhooks } = options
  const complete = webhooks === undefined ? undefined : completeWebhooks(webhooks, options)
  return Object.freeze({ ...options, webhooks: complete })
}
