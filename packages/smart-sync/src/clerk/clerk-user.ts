import { parseProviderTimestamp } from '@orientor/session-contract/core'
import { cleanJson, cleanText } from '../clean-text.js'
import type { ObservedProfile } from '../observation.js'

/** A user as the Backend API tells it. */
export interface ClerkUser {
  readonly subject: string
  readonly profile: ObservedProfile
  readonly version: number | null
}

/**
 * Reads the User object of Clerk's Backend API; null when it is none. Never throws.
 *
 * The e-mail address is the entry that `primary_email_address_id` names, since the list has no order. A banned user is blocked, and so is
 * one who is locked until somebody unlocks him; a lock that ends by itself is not taken over, since nothing would announce its end, and it
 * keeps nobody out who has a session. Of the metadata only the public one is kept: the browser can write `unsafe_metadata`.
 */
export function readClerkUser (value: unknown): ClerkUser | null {
  if (!isObject(value) || typeof value['id'] !== 'string') return null
  const locked = value['locked'] === true && typeof value['lockout_expires_in_seconds'] !== 'number'
  return {
    subject: value['id'],
    profile: {
      email: primaryEmail(value),
      firstName: cleanText(value['first_name']),
      lastName: cleanText(value['last_name']),
      blocked: value['banned'] === true || locked,
      data: {
        username: cleanText(value['username']),
        imageUrl: cleanText(value['image_url']),
        publicMetadata: isObject(value['public_metadata']) ? cleanJson(value['public_metadata']) : {}
      }
    },
    version: parseProviderTimestamp(value['updated_at'])
  }
}

function primaryEmail (user: Readonly<Record<string, unknown>>): string | null {
  const { email_addresses: addresses, primary_email_address_id: id } = user
  if (!Array.isArray(addresses) || typeof id !== 'string') return null
  const primary: unknown = addresses.find(entry => isObject(entry) && entry['id'] === id)
  return isObject(primary) ? cleanText(primary['email_address']) : null
}

function isObject (value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
