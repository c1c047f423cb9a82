import type { UserChange } from '@orientor/session-contract/core'
import { announcementOf, changeOf } from '../coherence/announcement.js'

/** The longest message of a bell, in bytes: NOTIFY takes less than 8,000. */
export const maxRingBytes = 7900

/** The message by which every instance polls. */
export const pollRing = '?'

/** The number of messages that changes are told by at most; what is more is cheaper to poll for. */
const maxMessages = 20

/**
 * The messages that tell changes: announcements, joined by commas, in the order given, or a single `?` where that would
 * take more than 20 messages of 7,900 bytes. No changes take no message.
 */
export function messagesOf (changes: readonly UserChange[]): readonly string[] {
  const messages: string[] = []
  let message = ''
  for (const change of changes) {
    const announcement = announcementOf(change)
    if (message.length + 1 + announcement.length > maxRingBytes) {
      messages.push(message)
      if (messages.length === maxMessages) return [pollRing]
      message = ''
    }
    message = message === '' ? announcement : `${message},${announcement}`
  }
  if (message !== '') messages.push(message)
  return messages
}

/** The meaning of a message: changes to apply, or that something changed that has to be polled for. */
export type Ring = { readonly changes: readonly UserChange[] } | 'poll'

/**
 * Reads a message; null when any part of it is no ring, which is refused as a whole. Never throws, whatever it is
 * given.
 */
export function ringOf (message: string): Ring | null {
  if (message === pollRing) return 'poll'
  if (typeof message !== 'string' || message.length > maxRingBytes) return null
  const changes: UserChange[] = []
  for (const announcement of message.split(',')) {
    const change = changeOf(announcement)
    if (change === null) return null
    changes.push(change)
  }
  return { changes }
}
