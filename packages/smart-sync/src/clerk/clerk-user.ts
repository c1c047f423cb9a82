import { parseProviderTimestamp } from '@orientor/session-contract/core'
import { cleanJson, cleanText } from '../clean-text.js'
import { isJsonObject, type JsonObject } from '../json-object.js'
import type { ObservedProfile } from '../observation.js'

/** A user as the Backend API describes them. */
export interface ClerkUser {
  readonly subject: string
  readonly profile: ObservedProfile
  readonly version: number | null
}

/**
 * Reads the User object of Clerk's Backend API; null when it is none. Never throws.
 *
 * The e-mail address is the entry that `primary_email_address_id` names, since the list has no order. A user is blocked
 * who is banned, or locked until an administrator unlocks them; a lock that ends by itself is not taken over, since
 * nothing would announce its end, and it ends no session. Of the metadata only the public one is kept: a browser can
 * write `unsafe_metadata`, and `private_metadata` is not for those who read the row.
 */
export function readClerkUser (value: unknown): ClerkUser | null {
  if (!isJsonObject(value) || typeof value['id'] !== 'string') return null
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
        publicMetadata: isJsonObject(value['public_metadata']) ? cleanJson(value['public_metadata']) : {}
      }
    },
    version: parseProviderTimestamp(value['updated_at'])
  }
}

function primaryEmail (user: JsonObject): string | null {
  const { email_addresses: addresses, primary_email_address_id: id } = user
  if (!Array.isArray(addresses) || typeof id !== 'string') return null
  const primary: unknown = addresses.find(entry => isJsonObject(entry) && entry['id'] === id)
  return isJsonObject(primary) ? cleanText(primary['email_address']) : null
}
