import { parseProviderTimestamp, startDeadline, withinDeadline, type Clock, type Deadline, type LoadRequest, type SessionKey } from '@orientor/session-contract/core'
import { claimOf, profileOfClaims, type ClaimNames } from './claims-profile.js'
import { errors } from './errors.js'
import type { IdentityProvider, ProviderAnswer } from './identity-provider.js'
import { observe, type Observation } from './observation.js'

/** What could be learned about one user. */
export type Sighting =
  | { readonly kind: 'seen', readonly observation: Observation }
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

/** What the token's claims say; without a token nothing is known. */
export function sightClaims (request: LoadRequest, names: ClaimNames): Sighting {
  if (request.identity === null) return { kind: 'unknown' }
  const version = parseProviderTimestamp(providerTimestampOf(request, names))
  return { kind: 'seen', observation: observe(request.issuer, request.subject, profileOfClaims(request.identity.claims, names), version, false) }
}

/** Asks the provider about users, all of one issuer at once. Never rejects. */
export async function askProvider (provider: IdentityProvider, requests: readonly LoadRequest[], clock: Clock, deadline: Deadline): Promise<ReadonlyMap<SessionKey, Sighting>> {
  const own = startDeadline(clock, Math.max(0, Math.floor((deadline.atMs - clock.monotonic()) * providerShareRatio)))
  const within: Deadline = { atMs: own.atMs, signal: AbortSignal.any([deadline.signal, own.signal]) }
  try {
    const issuers = [...new Set(requests.map(({ issuer }) => issuer))]
    const sightings = await Promise.all(issuers.map(async issuer => {
      const group = requests.filter(request => request.issuer === issuer)
      const answers = await lookUp(provider, issuer, group.map(({ subject }) => subject), within)
      return group.map(({ key, subject }) => [key, sightingOf(issuer, subject, answers.get(subject))] as const)
    }))
    return new Map(sightings.flat())
  } finally {
    own.release()
  }
}

async function lookUp (provider: IdentityProvider, issuer: string, subjects: readonly string[], deadline: Deadline): Promise<ReadonlyMap<string, ProviderAnswer>> {
  try {
    return await withinDeadline(provider.lookUp(issuer, subjects, deadline), deadline, 'The identity provider')
  } catch (cause) {
    const error = Object.assign(new errors.ProviderUnavailable('it gave no answer'), { cause })
    return new Map(subjects.map(subject => [subject, { kind: 'failed', error }]))
  }
}

function sightingOf (issuer: string, subject: string, answer: ProviderAnswer | undefined): Sighting {
  if (answer === undefined) return { kind: 'failed', error: new errors.ProviderUnavailable('it left a user out of its answer') }
  if (answer.kind !== 'found') return answer
  return { kind: 'seen', observation: observe(issuer, subject, answer.profile, answer.version, true) }
}
