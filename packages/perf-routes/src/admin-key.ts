import { createHash, timingSafeEqual } from 'node:crypto'
import { describe } from '@orientor/session-contract/core'
import { errors } from './errors.js'

/** The part of a request that holds the key. */
export interface KeyedRequest {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
}

/** A rule for the option `authorize` that knows how to ask for credentials. */
export interface AdminKeyRule {
  (request: KeyedRequest): boolean
  /** The value of `WWW-Authenticate` for a request that the rule refuses (RFC 9110, section 11.6.1). */
  readonly challenge: string
}

const header = 'x-admin-key'
const shortestKey = 32

/**
 * A rule for the option `authorize`: the header `x-admin-key` must hold one of these keys. Several keys serve rotation.
 *
 * Keys are kept and compared as SHA-256 digests, all of them each time, in constant time.
 *
 * @param keys - one key or several, each of at least 32 visible ASCII characters
 * @throws ORI_PERF_INVALID_ADMIN_KEY when there is no key or one breaks the rule
 * @example
 * app.register(perfRoutes, { authorize: adminKey([currentKey, previousKey]) })
 */
export function adminKey (keys: string | readonly string[]): AdminKeyRule {
  const digests = (Array.isArray(keys) ? keys : [keys]).map(key => digestOf(strong(key)))
  if (digests.length === 0) throw new errors.InvalidAdminKey('an empty list')
  return Object.assign((request: KeyedRequest): boolean => {
    const given = request.headers[header]
    if (typeof given !== 'string') return false
    const digest = digestOf(given)
    return digests.filter(known => timingSafeEqual(known, digest)).length > 0
  }, { challenge: `AdminKey realm="database", header="${header}"` })
}

function strong (key: unknown): string {
  if (typeof key !== 'string' || key.length < shortestKey || !/^[\x21-\x7e]+$/.test(key)) throw new errors.InvalidAdminKey(describe(key, true))
  return key
}

function digestOf (key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
