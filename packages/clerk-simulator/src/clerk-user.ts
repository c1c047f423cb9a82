import { clerkId } from './clerk-id.js'

type Metadata = Readonly<Record<string, unknown>>

/** One entry of `email_addresses[]`. */
export interface ClerkEmailAddress {
  readonly id: string
  readonly object: 'email_address'
  readonly email_address: string
  readonly reserved: boolean
  /** Null when the address was never verified. */
  readonly verification: {
    readonly object: 'verification_admin'
    readonly status: 'verified'
    readonly strategy: 'admin'
    readonly attempts: null
    readonly expire_at: null
  } | null
  readonly linked_to: readonly []
  readonly matches_sso_connection: boolean
  readonly created_at: number
  readonly updated_at: number
}

/** The User object of the Backend API. Every `*_at` is in milliseconds since the Unix epoch. */
export interface ClerkUser {
  readonly id: string
  readonly object: 'user'
  readonly username: string | null
  readonly first_name: string | null
  readonly last_name: string | null
  readonly locale: string | null
  readonly image_url: string
  readonly profile_image_url: string
  readonly has_image: boolean
  /** Null when the user has no e-mail address. The entry of that id need not be the first of `email_addresses`. */
  readonly primary_email_address_id: string | null
  readonly primary_phone_number_id: null
  readonly primary_web3_wallet_id: null
  readonly password_enabled: boolean
  readonly two_factor_enabled: boolean
  readonly totp_enabled: boolean
  readonly backup_code_enabled: boolean
  readonly email_addresses: readonly ClerkEmailAddress[]
  readonly phone_numbers: readonly []
  readonly web3_wallets: readonly []
  readonly passkeys: readonly []
  readonly external_accounts: readonly []
  readonly saml_accounts: readonly []
  readonly enterprise_accounts: readonly []
  readonly public_metadata: Metadata
  /** Null in webhooks. */
  readonly private_metadata: Metadata | null
  readonly unsafe_metadata: Metadata
  readonly external_id: string | null
  readonly last_sign_in_at: number | null
  readonly banned: boolean
  readonly locked: boolean
  readonly deprovisioned: boolean
  readonly lockout_expires_in_seconds: number | null
  readonly verification_attempts_remaining: number | null
  readonly created_at: number
  readonly updated_at: number
  readonly delete_self_enabled: boolean
  readonly create_organization_enabled: boolean
  readonly create_organizations_limit: number | null
  /** Day precision: midnight UTC of the last day with activity. */
  readonly last_active_at: number | null
  readonly mfa_enabled_at: number | null
  readonly mfa_disabled_at: number | null
  readonly password_last_updated_at: number | null
  readonly legal_accepted_at: number | null
  readonly bypass_client_trust: boolean
}

/** What of a user can be set. Left out: unchanged (or empty, for a new user). */
export interface UserInput {
  readonly firstName?: string | null
  readonly lastName?: string | null
  readonly username?: string | null
  readonly locale?: string | null
  readonly externalId?: string | null
  readonly imageUrl?: string | null
  /** The primary e-mail address; null removes every address. */
  readonly email?: string | null
  /** Whether `email` is verified when it is new. Default is true. */
  readonly emailVerified?: boolean
  /** Further addresses. They stand before the primary one in `email_addresses`, whose order means nothing. */
  readonly otherEmails?: readonly string[]
  readonly publicMetadata?: Metadata
  readonly privateMetadata?: Metadata
  readonly unsafeMetadata?: Metadata
  readonly locked?: boolean
  /** `updated_at`, in milliseconds since the Unix epoch. Default is now, and always later than before. */
  readonly updatedAt?: number
}

/** What a new user can be given besides. */
export interface NewUserInput extends UserInput {
  /** Default is a new `user_` id. */
  readonly id?: string
  /** `created_at`, in milliseconds since the Unix epoch. Default is now. */
  readonly createdAt?: number
}

const defaultImageUrl = 'https://img.clerk.com/default'

/** A user with nothing set. */
export function blankUser (id: string, createdAt: number): ClerkUser {
  return {
    id,
    object: 'user',
    username: null,
    first_name: null,
    last_name: null,
    locale: null,
    image_url: defaultImageUrl,
    profile_image_url: defaultImageUrl,
    has_image: false,
    primary_email_address_id: null,
    primary_phone_number_id: null,
    primary_web3_wallet_id: null,
    password_enabled: true,
    two_factor_enabled: false,
    totp_enabled: false,
    backup_code_enabled: false,
    email_addresses: [],
    phone_numbers: [],
    web3_wallets: [],
    passkeys: [],
    external_accounts: [],
    saml_accounts: [],
    enterprise_accounts: [],
    public_metadata: {},
    private_metadata: {},
    unsafe_metadata: {},
    external_id: null,
    last_sign_in_at: null,
    banned: false,
    locked: false,
    deprovisioned: false,
    lockout_expires_in_seconds: null,
    verification_attempts_remaining: 100,
    created_at: createdAt,
    updated_at: createdAt,
    delete_self_enabled: true,
    create_organization_enabled: true,
    create_organizations_limit: null,
    last_active_at: null,
    mfa_enabled_at: null,
    mfa_disabled_at: null,
    password_last_updated_at: null,
    legal_accepted_at: null,
    bypass_client_trust: false
  }
}

/** The user after the changes, all but its `updated_at`. */
export function withInput (user: ClerkUser, input: UserInput, nowMs: number): ClerkUser {
  return {
    ...user,
    ...emailsAfter(user, input, nowMs),
    ...input.firstName !== undefined && { first_name: input.firstName },
    ...input.lastName !== undefined && { last_name: input.lastName },
    ...input.username !== undefined && { username: input.username },
    ...input.locale !== undefined && { locale: input.locale },
    ...input.externalId !== undefined && { external_id: input.externalId },
    ...input.imageUrl !== undefined && {
      image_url: input.imageUrl ?? defaultImageUrl, profile_image_url: input.imageUrl ?? defaultImageUrl, has_image: input.imageUrl !== null
    },
    ...input.publicMetadata !== undefined && { public_metadata: input.publicMetadata },
    ...input.privateMetadata !== undefined && { private_metadata: input.privateMetadata },
    ...input.unsafeMetadata !== undefined && { unsafe_metadata: input.unsafeMetadata },
    ...input.locked !== undefined && { locked: input.locked }
  }
}

function emailsAfter (user: ClerkUser, input: UserInput, nowMs: number): Pick<ClerkUser, 'email_addresses' | 'primary_email_address_id'> {
  if (input.email === null) return { email_addresses: [], primary_email_address_id: null }
  const before = user.email_addresses
  const known = before.find(({ id }) => id === user.primary_email_address_id)
  const primary = input.email === undefined ? known : sameOrNew(before, input.email, input.emailVerified ?? true, nowMs)
  const others = input.otherEmails?.map(address => sameOrNew(before, address, true, nowMs)) ?? before.filter(entry => entry !== known)
  return {
    email_addresses: [...others.filter(entry => entry.email_address !== primary?.email_address), ...primary === undefined ? [] : [primary]],
    primary_email_address_id: primary?.id ?? null
  }
}

function sameOrNew (entries: readonly ClerkEmailAddress[], address: string, verified: boolean, nowMs: number): ClerkEmailAddress {
  return entries.find(entry => entry.email_address === address) ?? {
    id: clerkId('idn', nowMs),
    object: 'email_address',
    email_address: address,
    reserved: !verified,
    verification: verified ? { object: 'verification_admin', status: 'verified', strategy: 'admin', attempts: null, expire_at: null } : null,
    linked_to: [],
    matches_sso_connection: false,
    created_at: nowMs,
    updated_at: nowMs
  }
}
