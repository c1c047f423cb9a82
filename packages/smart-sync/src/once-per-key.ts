import type { Identity, LoadRequest, SessionKey } from '@orientor/session-contract/core'

/** The requests of a batch, one per user: with the newest of their identities, and forced if any of them is. */
export function oncePerKey (batch: readonly LoadRequest[]): ReadonlyMap<SessionKey, LoadRequest> {
  const requests = new Map<SessionKey, LoadRequest>()
  for (const request of batch) {
    const other = requests.get(request.key)
    const force = other?.force === true || request.force === true
    const identity = other === undefined ? request.identity : newest(other.identity, request.identity)
    requests.set(request.key, other === undefined ? request : { ...request, identity, force })
  }
  return requests
}

function newest (one: Identity | null, other: Identity | null): Identity | null {
  if (one === null || other === null) return one ?? other
  return (other.issuedAtMs ?? 0) >= (one.issuedAtMs ?? 0) ? other : one
}
