import { errors } from '../errors.js'
import type { Identity } from '../identity.js'
import { describe } from '../option-rules.js'
import { failed, unavailable, type SessionOutcome, type Unresolved } from '../session-outcome.js'

const anIdentity = 'an identity, as createIdentity() makes it, or an outcome such as { kind: \'anonymous\' }'

/** What the slot `identify` answered, or a `failed` outcome when that is neither an identity nor an outcome. */
export function checkedIdentity (found: Identity | Unresolved): Identity | Unresolved {
  if (found?.kind === 'identity' && typeof found.key === 'string') return found
  return checkedUnresolved(found) ?? invalidAnswer('identify', anIdentity, found)
}

/** What the slot `resolve` answered, or a `failed` outcome when that is no outcome of an identity. */
export function checkedOutcome (found: SessionOutcome): SessionOutcome {
  if (found?.kind === 'user' && typeof found.user === 'object' && found.user !== null) return found
  if (found?.kind === 'identified') return found // A resolver without a source of users says so.
  return checkedUnresolved(found) ?? invalidAnswer('resolve', 'the user or why there is none, as an outcome', found)
}

/** Causes are put where JSON does not show them, whoever made the outcome. */
function checkedUnresolved (found: Identity | SessionOutcome): Unresolved | null {
  switch (found?.kind) {
    case 'anonymous': case 'forbidden': return found
    case 'failed': return failed(found.cause)
    case 'unavailable': return Number.isFinite(found.retryAfterMs) ? unavailable(found.retryAfterMs, found.cause ?? null) : null
    case 'refused': return isRefusal(found) ? found : null
    default: return null
  }
}

function isRefusal (found: Unresolved & { readonly kind: 'refused' }): boolean {
  if (typeof found.description !== 'string') return false
  if (found.error === null) return Number.isInteger(found.status) && found.status >= 400 && found.status <= 499
  return found.error === 'invalid_request' || found.error === 'invalid_token'
}

function invalidAnswer (slot: string, must: string, received: unknown): Unresolved {
  return failed(new errors.InvalidAnswer(slot, must, describe(received, true)))
}
