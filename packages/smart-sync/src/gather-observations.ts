import {
  parseProviderTimestamp, startDeadline, withinDeadline, type Clock, type Deadline, type LoadRequest, type SessionKey
} from '@orientor/session-contract/core'
import { claimOf, profileOfClaims, type ClaimNames } from './claims-profile.js'
import { errors } from './errors.js'
import type { IdentityProvider, LookUpPriority, ProviderAnswer } from './identity-provider.js'
import { observe, type ProfileObserved } from './observation.js'

/** The result of looking one user up, at the provider or in the claims of the token. */
export type LookUpResult =
  | { readonly kind: 'observed', readonly observation: ProfileObserved }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'failed', readonly error: Error, readonly retryAfterMs?: number }

/** The provider may use this much of the time that is left: a provider that hangs must leave the database its part. */
const providerShareRatio = 0.75

/**
 * What the token says about when the provider last changed the user: the identity's own hint, else the claim;
 * undefined when nothing does.
 */
export function providerTimestampOf ({ identity }: LoadRequest, names: ClaimNames): unknown {
  return identity === null ? undefined : identity.providerUpdatedAt ?? claimOf(identity.claims, names.updatedAt)
}

/** The observation that the token's claims make; without a token there is none. */
export function readClaims (request: LoadRequest, names: ClaimNames): LookUpResult {
  if (request.identity === null) return { kind: 'unknown' }
  const version = parseProviderTimestamp(providerTimestampOf(request, names))
  const profile = profileOfClaims(request.identity.claims, names)
  return { kind: 'observed', observation: observe(request.issuer, request.subject, profile, version, false) }
}

/** The priority of a load: a preload, which no request waits for, is `backfill`, unless it is forced. */
export function priorityOfLoad ({ identity, force }: LoadRequest): LookUpPriority {
  return identity === null && force !== true ? 'backfill' : 'interactive'
}

/**
 * Asks the provider about users, all of one issuer and priority at once; the answer waits for all. Never rejects.
 *
 * @param priorityOf - default: as of a load
 */
export async function askProvider (
  provider: IdentityProvider, requests: readonly LoadRequest[], clock: Clock, deadline: Deadline,
  priorityOf: (request: LoadRequest) => LookUpPriority = priorityOfLoad
): Promise<ReadonlyMap<SessionKey, LookUpResult>> {
  const own = startDeadline(clock, Math.max(0, Math.floor((deadline.atMs - clock.monotonic()) * providerShareRatio)))
  const within: Deadline = { atMs: own.atMs, signal: AbortSignal.any([deadline.signal, own.signal]) }
  const groups = new Map<string, LoadRequest[]>()
  for (const request of requests) {
    const group = `${priorityOf(request)} ${request.issuer}`
    const others = groups.get(group)
    if (others === undefined) groups.set(group, [request])
    else others.push(request)
  }
  try {
    const results = await Promise.all([...groups.values()].map(async group => {
      const { issuer } = group[0]!
      const subjects = group.map(({ subject }) => subject)
      const answers = await lookUp(provider, issuer, subjects, within, priorityOf(group[0]!))
      return group.map(({ key, subject }) => [key, resultOf(issuer, subject, answers)] as const)
    }))
    return new Map(results.flat())
  } finally {
    own.release()
  }
}

async function lookUp (
  provider: IdentityProvider, issuer: string, subjects: readonly string[], deadline: Deadline, priority: LookUpPriority
): Promise<ReadonlyMap<string, ProviderAnswer>> {
  try {
    const asked = provider.lookUp(issuer, subjects, deadline, priority)
    return await withinDeadline(asked, deadline, 'The identity provider')
  } catch (cause) {
    const error = Object.assign(new errors.ProviderUnavailable('it gave no answer'), { cause })
    return new Map(subjects.map(subject => [subject, { kind: 'failed', error }]))
  }
}

/** The result for one user. An answer that cannot be used fails for this user alone. */
function resultOf (issuer: string, subject: string, answers: ReadonlyMap<string, ProviderAnswer>): LookUpResult {
  try {
    const answer = answers.get(subject)
    if (answer === undefined) {
      return { kind: 'failed', error: new errors.ProviderUnavailable('it left a user out of its answer') }
    }
    if (answer.kind !== 'found') return answer
    return { kind: 'observed', observation: observe(issuer, subject, answer.profile, answer.version, true) }
  } catch (cause) {
    const error = new errors.ProviderUnavailable('its answer about a user is none')
    return { kind: 'failed', error: Object.assign(error, { cause }) }
  }
}
