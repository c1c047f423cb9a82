import type { Clock, Component, Health, Instrument } from '@orientor/session-contract/core'
import type { JwksSource, JwksSourceStats } from './jwks-source.js'
import type { TokenVerifierStats } from './token-verifier.js'

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
 * are in use, unhealthy without any. With several issuers the counts of keys are sums, and the worst of them tells the health.
 *
 * @param sources - none: the application verifies with a key of its own
 */
export function identityComponent (verifier: { stats (): TokenVerifierStats }, sources: readonly JwksSource[], clock: Clock): IdentityComponent {
  const stats = (): SessionIdentityStats & Readonly<Record<string, number>> => {
    const sum = { keyFetches: 0, keyFetchFailures: 0, keys: 0 }
    for (const { stats } of sources) {
      sum.keyFetches += stats.fetches
      sum.keyFetchFailures += stats.failures
      sum.keys += stats.keys
    }
    return Object.freeze({ ...verifier.stats(), ...sum })
  }
  const instruments: readonly Instrument[] = [
    {
      name: 'orientor.session_identity.tokens',
      kind: 'counter',
      unit: '{token}',
      help: 'Tokens by result: hits (verified before), verified, pending, refused, unavailable',
      read: () => {
        const counts = verifier.stats()
        return results.map(result => ({ labels: { result }, value: counts[result] }))
      }
    },
    gauge('orientor.session_identity.cached_tokens', '{token}', 'Verified tokens in use', () => verifier.stats().cachedTokens),
    gauge('orientor.session_identity.keys', '{key}', 'Published keys in use', () => stats().keys),
    {
      name: 'orientor.session_identity.key_fetches',
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
  return { name: 'sessionIdentity', instruments, stats, health: () => ({ ...healthOf(sources), checkedAtMs: clock.now() }) }
}

function gauge (name: string, unit: string, help: string, value: () => number): Instrument {
  return { name, kind: 'gauge', unit, help, read: () => [{ labels: {}, value: value() }] }
}

function healthOf (sources: readonly JwksSource[]): Omit<Health, 'checkedAtMs'> {
  if (sources.length === 0) return { status: 'healthy', reason: 'Tokens are verified by the application' }
  const all = sources.map(({ stats }) => stats)
  const failing = all.filter(stats => stats.failing !== null)
  const without = failing.find(({ keys }) => keys === 0)
  if (without !== undefined) return { status: 'unhealthy', reason: problemOf(without, all) }
  const [first] = failing
  if (first !== undefined) return { status: 'degraded', reason: `${problemOf(first, all)}; the last ones are in use` }
  const isUnused = all.every(({ fetches }) => fetches === 0)
  return { status: 'healthy', reason: isUnused ? 'No token has needed a key yet' : 'The keys of the issuer are loaded' }
}

function problemOf ({ failing }: JwksSourceStats, { length }: { readonly length: number }): string {
  return `The keys of ${length === 1 ? 'the issuer' : 'an issuer'} cannot be ${failing === 'discovery' ? 'discovered' : 'loaded'}`
}
