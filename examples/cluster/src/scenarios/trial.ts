import type { PostgresFaults } from '@orientor/test-kit'
import { CoherenceChecker, Convergence, TrustWatch, type CoherenceReport, type TrustSample } from '../checker/index.js'
import { Changes, Readers, Writer, type Cluster, type Observed, type Profile } from '../harness/index.js'
import type { Scenario } from './scenario.js'

/** How hard a cluster is tried. */
export interface Effort {
  /** Requests to each instance. */
  readonly readsPerSecond: number
  /** How long it is watched before the fault, and after it, in milliseconds; at least as long as everything has to be well again. */
  readonly calmMs: number
  /** Divides the rates of the changes. Default is 1. */
  readonly slower?: number
}

/** What a trial showed. Times are milliseconds. */
export interface TrialResult {
  readonly report: CoherenceReport
  readonly injected: string
  /** From the end of the fault to the last key of the last instance that was served as it should be. */
  readonly convergedAfterMs: number
  readonly notConverged: readonly string[]
  readonly trustLostBy: readonly string[]
  readonly trustBackAfterMs: number
  /** Whether any instance ever said that it trusts its bus. */
  readonly everTrusted: boolean
  /** Failed requests for users whom nobody changed: they are in memory, and nothing forbids to serve them. */
  readonly failedUnchanged: number
}

/** How long trust may take to come back beyond the timeout of a heartbeat, in milliseconds. */
export const trustSlackMs = 2000
const trustedWithinMs = 15_000

/** Reads and writes all the time, injects the fault, heals it, and watches on. */
export async function runTrial (scenario: Scenario, cluster: Cluster, faults: PostgresFaults, profile: Profile, effort: Effort): Promise<TrialResult> {
  const { members, people: { list } } = cluster
  const struck = members[0]!
  const doors = members.map(({ process }) => process)
  const checker = new CoherenceChecker(profile)
  const unchanged = new Set(list.slice(-2).map(({ subject }) => subject))
  const last = new Map<string, TrustSample>()
  let failedUnchanged = 0
  let everTrusted = false
  let convergence: Convergence | null = null
  let watch: TrustWatch | null = null
  const hear = ({ read, trust }: Observed): void => {
    checker.read(read)
    convergence?.read(read)
    if (read.answer.kind === 'failed' && unchanged.has(read.key)) failedUnchanged++
    if (trust === null) return
    last.set(trust.instance, trust)
    watch?.sample(trust)
    everTrusted ||= trust.trusted
  }

  const { slower = 1 } = effort
  const writer = new Writer(cluster.databaseUrl, list.map(({ subject }) => subject), checker)
  const readers = new Readers(doors, list, effort.readsPerSecond, hear)
  const changes = new Changes(writer, { busy: list.slice(0, 4), seldom: list.slice(4, -2), busyEveryMs: 80 * slower, seldomEveryMs: 7000 })
  try {
    if (scenario.trust !== 'never') await settled(() => doors.every(({ name }) => last.get(name)?.trusted === true))
    await pause(effort.calmMs)
    watch = new TrustWatch(new Map([...last].map(([instance, { epoch }]) => [instance, epoch])))
    const injectedAtMs = performance.now()
    const injected = await scenario.inject({ cluster, faults, member: struck })
    const heal = (atMs: number): void => {
      convergence = new Convergence(atMs, checker.newest(), doors.map(({ name }) => name))
      watch!.heal(atMs, atMs + profile.heartbeatTimeoutMs + trustSlackMs)
    }
    if (scenario.healsItself === true) heal(injectedAtMs)
    await pause(scenario.durationMs)
    await injected.heal()
    if (scenario.healsItself !== true) heal(performance.now())
    await pause(Math.max(effort.calmMs, profile.maxStalenessMs + 1000))
    await Promise.all([readers.stop(), changes.stop()])
    return {
      report: checker.report(),
      injected: injected.what,
      convergedAfterMs: convergence!.tookMs,
      notConverged: convergence!.missing,
      trustLostBy: watch.lost,
      trustBackAfterMs: watch.backAfterMs,
      everTrusted,
      failedUnchanged
    }
  } finally {
    await Promise.all([readers.stop(), changes.stop()])
  }
}

async function settled (condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + trustedWithinMs
  while (!condition() && performance.now() < untilMs) await pause(20)
}

function pause (ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}
