import { randomBytes } from 'node:crypto'

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ksuidEpochSeconds = 1_400_000_000
const ksuidLength = 27

/** Prefixes of the ids that Clerk and Svix give out. */
export type ClerkIdPrefix = 'user' | 'sess' | 'idn' | 'ins' | 'client' | 'ep' | 'msg'

/**
 * A new id: the prefix, `_`, and a KSUID of 27 base62 characters whose first four bytes are the second of creation.
 */
export function clerkId (prefix: ClerkIdPrefix, nowMs: number): string {
  const bytes = Buffer.alloc(20)
  bytes.writeUInt32BE(Math.max(0, Math.floor(nowMs / 1000) - ksuidEpochSeconds) >>> 0)
  randomBytes(16).copy(bytes, 4)
  let rest = BigInt(`0x${bytes.toString('hex')}`)
  let digits = ''
  while (rest > 0n) {
    digits = alphabet.charAt(Number(rest % 62n)) + digits
    rest /= 62n
  }
  return `${prefix}_${digits.padStart(ksuidLength, '0')}`
}
