import { violationsOf } from '../checker/index.js'
import type { Profile } from '../harness/index.js'
import type { Scenario } from './scenario.js'
import { trustSlackMs, type TrialResult } from './trial.js'

/** How much later than B everything may be served as it should after a fault, in milliseconds. */
const convergenceSlackMs = 1000

/** What a trial broke, in words; empty when it broke nothing. */
export function verdictOn (result: TrialResult, scenario: Scenario, { maxStalenessMs, heartbeatTimeoutMs }: Profile): readonly string[] {
  const { report, convergedAfterMs, notConverged, trustBackAfterMs, trustLostBy, everTrusted, failedUnchanged } = result
  const convergedWithinMs = maxStalenessMs + convergenceSlackMs
  const trustedWithinMs = heartbeatTimeoutMs + trustSlackMs
  const rules: ReadonlyArray<readonly [broken: boolean, what: string]> = [
    [violationsOf(report) > 0, `${violationsOf(report)} wrong answers: ${report.findings.slice(0, 5).join('; ')}`],
    [convergedAfterMs > convergedWithinMs, `converged after ${Math.round(convergedAfterMs)} ms instead of ${convergedWithinMs} (${notConverged.slice(0, 5).join(', ') || 'nothing missing'})`],
    [failedUnchanged > 0, `${failedUnchanged} requests for users whom nobody changed failed (${JSON.stringify(report.failed)})`],
    [scenario.trust === 'kept' && trustLostBy.length > 0, `${trustLostBy.join(', ')} lost trust`],
    [scenario.trust === 'lost' && trustLostBy.length === 0, 'nobody lost trust: the fault did not strike'],
    [scenario.trust !== 'never' && !everTrusted, 'nobody ever trusted its bus'],
    [scenario.trust !== 'never' && trustBackAfterMs > trustedWithinMs, `trust was back after ${Math.round(trustBackAfterMs)} ms instead of ${trustedWithinMs}`],
    [scenario.trust === 'never' && everTrusted, 'a bus was trusted that delivers nothing']
  ]
  return rules.filter(([broken]) => broken).map(([, what]) => what)
}

/** A trial in one line: what was injected, seen and reached. */
export function summaryOf ({ report, injected, convergedAfterMs, trustLostBy, trustBackAfterMs, failedUnchanged }: TrialResult): string {
  const { reads, commits, marked, failed, oldestUnmarkedMs, oldestMarkedMs, violations } = report
  return JSON.stringify({
    injected,
    seen: { reads, commits, marked, failed, failedUnchanged, trustLostBy },
    reached: {
      violations: Object.fromEntries(Object.entries(violations).filter(([, count]) => count > 0)),
      oldestUnmarkedMs: Math.round(oldestUnmarkedMs),
      oldestMarkedMs: Math.round(oldestMarkedMs),
      convergedAfterMs: Math.round(convergedAfterMs),
      trustBackAfterMs: Math.round(trustBackAfterMs)
    }
  })
}
