import type { Instrument } from '@orientor/session-contract/core'
import type { SessionCacheStats } from './cache-stats.js'

type Reading = ReadonlyArray<readonly [label: Readonly<Record<string, string>>, count: keyof SessionCacheStats]>

/** What a cache shows to monitoring, beside its counters. */
export function cacheInstruments (stats: () => SessionCacheStats): readonly Instrument[] {
  const instrument = (kind: Instrument['kind'], name: string, unit: string, help: string, reading: Reading): Instrument => ({
    name: `orientor.session_cache.${name}`,
    kind,
    unit,
    help,
    read () {
      const now = stats()
      return reading.map(([labels, count]) => ({ labels, value: now[count] }))
    }
  })
  return Object.freeze([
    instrument('counter', 'lookups', '{lookup}', 'Lookups answered, by result', [
      [{ result: 'hit' }, 'cacheHits'], [{ result: 'stale' }, 'staleHits'], [{ result: 'negative' }, 'negativeHits'], [{ result: 'miss' }, 'cacheMisses']
    ]),
    instrument('counter', 'misses', '{lookup}', 'Lookups that needed a load, by reason', [
      [{ reason: 'cold' }, 'missesCold'], [{ reason: 'expired' }, 'missesExpired'], [{ reason: 'evicted' }, 'missesEvicted'],
      [{ reason: 'invalidated' }, 'missesInvalidated'], [{ reason: 'epoch' }, 'missesEpoch'], [{ reason: 'staleness' }, 'missesStaleness'],
      [{ reason: 'hint' }, 'missesHint']
    ]),
    instrument('counter', 'loads', '{load}', 'Loads begun', [[{}, 'loads']]),
    instrument('counter', 'load_failures', '{load}', 'Loads that failed', [[{}, 'loadFailures']]),
    instrument('counter', 'loads_overtaken', '{load}', 'Loads that an invalidation overtook', [[{}, 'loadsOvertaken']]),
    instrument('counter', 'loads_elsewhere', '{load}', 'Loads that read where what the bus proves does not hold', [[{}, 'loadsElsewhere']]),
    instrument('counter', 'syncs', '{load}', 'Loads by what became of the sync with the provider', [
      [{ result: 'performed' }, 'databaseSyncs'], [{ result: 'skipped' }, 'syncSkips'], [{ result: 'failed' }, 'syncFailures']
    ]),
    instrument('counter', 'departures', '{entry}', 'Entries that left, by reason', [
      [{ reason: 'evicted' }, 'evictions'], [{ reason: 'expired' }, 'expired'], [{ reason: 'invalidated' }, 'invalidations']
    ]),
    instrument('gauge', 'entries', '{entry}', 'Entries in memory', [[{ kind: 'user' }, 'entries'], [{ kind: 'negative' }, 'negativeEntries']]),
    instrument('gauge', 'in_flight', '{load}', 'Loads on their way', [[{}, 'inFlight']]),
    instrument('counter', 'circuit_openings', '{opening}', 'Times that the circuit to the source opened', [[{}, 'circuitOpenings']]),
    instrument('counter', 'circuit_refusals', '{load}', 'Loads turned away by the open circuit', [[{}, 'circuitRefusals']]),
    instrument('gauge', 'circuit_open', '{circuit}', 'Whether the circuit to the source is open', [[{}, 'circuitOpen']]),
    instrument('gauge', 'waiting', '{lookup}', 'Lookups that wait for a load', [[{}, 'waiting']])
  ])
}
