import { issuerFlaw, sessionKey, subjectFlaw, type Clock, type Component, type SessionKey } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { within } from './within.js'

/** What is to be forgotten, and why. */
export interface Invalidation {
  readonly target: { readonly key: SessionKey } | 'all'
  readonly reason: string
}

const longestReason = 200
const shapes = 'The body must be { "issuer", "subject" } or { "all": true }, each with an optional "reason".'
const known = new Set(['issuer', 'subject', 'all', 'reason'])

/**
 * Reads the body of an invalidation: one user, or all. Says the rule, never the value.
 *
 * @param defaultIssuer - used when the body names a subject only; null: the issuer must be given
 * @throws ORI_PERF_INVALID_REQUEST
 */
export function readInvalidation (body: unknown, defaultIssuer: string | null): Invalidation {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw invalid('The body must be a JSON object.')
  if (Object.keys(body).some(name => !known.has(name))) throw invalid('The body has a key that is not known.')
  const { all, subject, issuer = defaultIssuer, reason = 'asked for by an administrator' } = body as Record<string, unknown>
  if (typeof reason !== 'string' || reason.length === 0 || reason.length > longestReason || /\p{Cc}/u.test(reason)) {
    throw invalid(`"reason" must be text of 1 to ${longestReason} characters without control characters.`)
  }
  if (all !== undefined) {
    if (all !== true) throw invalid('"all" must be true or left out.')
    if (subject !== undefined || 'issuer' in body) throw invalid('It is either all or one user.')
    return { target: 'all', reason }
  }
  if (issuer === null) throw invalid('"issuer" is missing.')
  const flaw = issuerFlaw(issuer) ?? subjectFlaw(subject)
  if (flaw !== null) throw invalid(flaw)
  return { target: { key: sessionKey(issuer as string, subject as string) }, reason }
}

/**
 * Tells every component that has something to forget.
 *
 * @returns how many instances were told at least; null when that cannot be known
 * @throws ORI_PERF_NOTHING_TO_INVALIDATE when there is none, ORI_PERF_INVALIDATION_FAILED when one fails or does not answer in time
 */
export async function invalidate (components: readonly Component[], { target, reason }: Invalidation, clock: Clock): Promise<number | null> {
  const able = components.filter(({ admin }) => admin?.invalidate !== undefined)
  if (able.length === 0) throw new errors.NothingToInvalidate()
  const told = await Promise.allSettled(able.map(({ admin }) => within(clock, () => admin!.invalidate!(target, reason))))
  let least = Infinity
  let unknown = false
  for (const answer of told) {
    if (answer.status === 'rejected') throw new errors.InvalidationFailed({ cause: answer.reason })
    const { instances } = answer.value
    if (instances === null) unknown = true
    else least = Math.min(least, instances)
  }
  return unknown ? null : least
}

function invalid (what: string): Error {
  return new errors.InvalidRequest(`${what} ${shapes}`)
}
