import type { Clock, Component, Health, Instrument } from '@orientor/session-contract/core'
import type { JwksSource } from './jwks-source.js'
import type { TokenVerifier, TokenVerifierStats } from './token-verifier.js'

/** Everything countable about identification; without published keys their counts are 0. */
export interface SessionIdentityStats extends TokenVerifierStats {
  readonly keyFetches: number
  readonly keyFetchFailures: number
  readonly keys: number
}

/** The component with its counts named. */
export interface IdentityComponent extends Component {
  stats (): SessionIdentityStats & Readonly<Record<string, number>>
}

const results = ['hits', 'verified', 'pending', 'refused', 'unavailable'] as const

/**
 * What the monitoring routes may show of identification. Healthy, unless keys are wanted and cannot be had: degraded while older ones
 * are in use, unhealthy without any.
 *
 * @param source - null: the application verifies with a key of its own
 */
export function identityComponent (verifier: TokenVerifier, source: JwksSource | null, clock: Clock): IdentityComponent {
  const stats = (): SessionIdentityStats & Readonly<Record<string, number>> => {
    const { fetches = 0, failures = 0, keys = 0 } = source?.stats ?? {}
    return Object.freeze({ ...verifier.stats(), keyFetches: fetches, keyFetchFailures: failures, keys })
  }
  const instruments: readonly Instrument[] = [
    {
      name: 'session.identity.tokens',
      kind: 'counter',
      unit: '{token}',
      help: 'Tokens by result: hits (verified before), verified, pending, refused, unavailable',
      read: () => {
        const counts = verifier.stats()
        return results.map(result => ({ labels: { result }, value: counts[result] }))
      }
    },
    gauge('session.identity.cached_tokens', '{token}', 'Verified tokens in use', () => verifier.stats().cachedTokens),
    gauge('session.identity.keys', '{key}', 'Published keys in use', () => stats().keys),
    {
      name: 'session.identity.key_fetches',
      kind: 'counter',
      unit: '{fetch}',
      help: 'Fetches of the published keys by result',
      read: () => {
        const { keyFetches, keyFetchFailures } = stats()
        return [
          { labels: { result: 'succeeded' }, value: keyFetches - keyFetchFailures },
          { labels: { result: 'failed' }, value: keyFetchFailures }
        ]
      }
    }
  ]
  return { name: 'sessionIdentity', instruments, stats, health: () => ({ ...healthOf(source), checkedAtMs: clock.now() }) }
}

function gauge (name: string, unit: string, help: string, value: () => number): Instrument {
  return { name, kind: 'gauge', unit, help, read: () => [{ labels: {}, value: value() }] }
}

function healthOf (source: JwksSource | null): Omit<Health, 'checkedAtMs'> {
  if (source === null) return { status: 'healthy', reason: 'Tokens are verified by the application' }
  const { keys, failing, fetches } = source.stats
  if (failing) {
    return keys > 0
      ? { status: 'degraded', reason: 'The keys of the issuer cannot be loaded; the last ones are in use' }
      : { status: 'unhealthy', reason: 'The keys of the issuer cannot be loaded' }
  }
  return { status: 'healthy', reason: fetches === 0 ? 'No token has needed a key yet' : 'The keys of the issuer are loaded' }
}
