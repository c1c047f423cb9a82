import { violationsOf } from '../checker/index.js'
import type { Profile } from '../harness/index.js'
import type { Scenario } from './scenario.js'
import { convergenceSlackMs, trustSlackMs, type TrialResult } from './trial.js'

/**
 * The promises that a trial broke, in words; empty when it broke none. What may not be wrong may never be; what has to come
 * within a time may come later by what the machine withheld from everybody meanwhile. Where it withheld more than a
 * poll may take, no trust can be expected.
 */
export function verdictOn (result: TrialResult, scenario: Scenario, { maxStalenessMs, pollTimeoutMs }: Profile): readonly string[] {
  const { report, convergedAfterMs, notConverged, trustBackAfterMs, trustLost, rounds, everTrusted, failedUnchanged, lateMs } = result
  const wrong = violationsOf(report) - (scenario.goesBack === true ? report.violations.regression : 0)
  const convergedWithinMs = maxStalenessMs + convergenceSlackMs + lateMs
  const trustedWithinMs = pollTimeoutMs + trustSlackMs + lateMs
  const rules: ReadonlyArray<readonly [broken: boolean, what: string]> = [
    [wrong > 0, `${wrong} wrong answers: ${report.findings.slice(0, 5).join('; ')}`],
    [convergedAfterMs > convergedWithinMs, `converged after ${Math.round(convergedAfterMs)} ms instead of ${Math.round(convergedWithinMs)} (${notConverged.slice(0, 5).join(', ') || 'nothing missing'})`],
    [failedUnchanged > 0, `${failedUnchanged} requests for users whom nobody changed failed (${JSON.stringify(report.failed)})`],
    [scenario.trust === 'kept' && trustLost > 0 && lateMs < pollTimeoutMs / 2, `trust was lost in ${trustLost} of ${rounds} rounds`],
    [scenario.trust === 'lost' && trustLost < rounds, `trust was lost in ${trustLost} of ${rounds} rounds only: the fault did not strike`],
    [scenario.trust !== 'never' && !everTrusted, 'nobody ever trusted its bus'],
    [scenario.trust !== 'never' && trustBackAfterMs > trustedWithinMs && lateMs <= pollTimeoutMs, `trust was back after ${Math.round(trustBackAfterMs)} ms instead of ${Math.round(trustedWithinMs)}`],
    [scenario.trust === 'never' && everTrusted, 'a bus was trusted that delivers nothing']
  ]
  return rules.filter(([broken]) => broken).map(([, what]) => what)
}

/** A trial in one line: what was injected, seen and reached. */
export function summaryOf ({ report, injected, convergedAfterMs, trustLost, rounds, trustBackAfterMs, failedUnchanged, lateMs }: TrialResult): string {
  const { reads, commits, marked, failed, oldestUnmarkedMs, oldestMarkedMs, violations } = report
  return JSON.stringify({
    injected: rounds === 1 ? injected : `${rounds} × ${injected}`,
    seen: { reads, commits, marked, failed, failedUnchanged, trustLost, lateMs: Math.round(lateMs) },
    reached: {
      violations: Object.fromEntries(Object.entries(violations).filter(([, count]) => count > 0)),
      oldestUnmarkedMs: Math.round(oldestUnmarkedMs),
      oldestMarkedMs: Math.round(oldestMarkedMs),
      convergedAfterMs: Math.round(convergedAfterMs),
      trustBackAfterMs: Math.round(trustBackAfterMs)
    }
  })
}
