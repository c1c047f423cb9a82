import { CoherenceChecker, Convergence, TrustWatch, type CoherenceReport, type TrustSample } from '../checker/index.js'
import { Changes, Readers, warmUp, Writer, type Observed, type Profile } from '../harness/index.js'
import { Lateness } from './lateness.js'
import type { Scenario } from './scenario.js'
import type { Scene } from './set-scene.js'

/** How hard a cluster is tried. */
export interface Effort {
  /** Requests to each instance. */
  readonly readsPerSecond: number
  /** How long it is watched before the first fault, in milliseconds. */
  readonly calmMs: number
  /** How often the fault is injected, healed and watched. */
  readonly rounds: number
}

/** What a trial showed: of several rounds, the worst. Times are milliseconds. */
export interface TrialResult {
  readonly report: CoherenceReport
  readonly injected: string
  /** From the end of the fault to the last key of the last instance that was served as it should be. */
  readonly convergedAfterMs: number
  readonly notConverged: readonly string[]
  /** In how many rounds somebody lost trust. */
  readonly trustLost: number
  readonly rounds: number
  readonly trustBackAfterMs: number
  /** Whether any instance ever said that it trusts its bus. */
  readonly everTrusted: boolean
  /** Failed requests for users whom nobody changed: they are in memory, and nothing forbids to serve them. */
  readonly failedUnchanged: number
  /** How late the timers of this process were after the end of a fault, all in all: time that the machine did not give to anybody. */
  readonly lateMs: number
}

/** The time that trust may take to come back beyond the timeout of a poll, in milliseconds. */
export const trustSlackMs = 2000
/** How much later than B everything may be served as it should after a fault, in milliseconds. */
export const convergenceSlackMs = 1000

const settledWithinMs = 15_000
const unchangedCount = 2

interface Round { readonly what: string, readonly convergence: Convergence, readonly watch: TrustWatch, readonly lateMs: number }

/** Reads and writes all the time, injects the fault, heals it, and watches on. */
export async function runTrial (scenario: Scenario, scene: Scene, profile: Profile, effort: Effort): Promise<TrialResult> {
  const { cluster } = scene
  const { readsPerSecond, calmMs, rounds: wanted } = effort
  const rounds = scenario.isOnce === true ? 1 : wanted
  const { members, databaseUrl, people: { list } } = cluster
  const doors = members.map(({ process }) => process)
  const checker = new CoherenceChecker(profile)
  const unchanged = new Set(list.slice(-unchangedCount).map(({ subject }) => subject))
  const last = new Map<string, TrustSample>()
  const writer = new Writer(databaseUrl, checker)
  const lateness = new Lateness()
  const done: Round[] = []
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
  const round = async (): Promise<Round> => {
    if (scenario.trust !== 'never') await within(() => readers.names.every(name => last.get(name)?.trusted === true))
    convergence = null
    watch = new TrustWatch(new Map([...last].map(([instance, { epoch }]) => [instance, epoch])))
    const over = (atMs: number): void => {
      lateness.reset()
      convergence = new Convergence(atMs, checker.newest(), readers.names)
      watch!.heal(atMs, atMs + profile.pollTimeoutMs + trustSlackMs)
    }
    const injectedAtMs = performance.now()
    const { what, heal } = await scenario.inject(stage)
    if (scenario.healsItself === true) over(injectedAtMs)
    try {
      await pause(scenario.durationMs)
    } finally {
      await heal()
    }
    if (scenario.healsItself !== true) over(performance.now())
    const healedAtMs = performance.now()
    const leastMs = profile.maxStalenessMs + convergenceSlackMs
    await pause(leastMs)
    // What the machine withheld is given on top, if it is needed.
    const isWell = (): boolean => convergence!.tookMs < Infinity && (scenario.trust === 'never' || watch!.backAfterMs < Infinity || lateness.totalMs > profile.pollTimeoutMs)
    while (!isWell() && performance.now() < healedAtMs + leastMs + lateness.totalMs) await pause(20)
    return { what, convergence: convergence!, watch: watch!, lateMs: lateness.totalMs }
  }

  await warmUp(doors, list, { trusted: scenario.trust !== 'never' })
  await writer.start(list.map(({ subject }) => subject))
  const readers = new Readers(doors, list, readsPerSecond, hear)
  const stage = { ...scene, member: members[0]!, writer, readers }
  const changes = new Changes(writer, { busy: list.slice(0, 4), seldom: list.slice(4, -unchangedCount), busyEveryMs: 80, seldomEveryMs: 7000 })
  try {
    await pause(calmMs)
    await scenario.prepare?.(stage)
    for (let count = 0; count < rounds; count++) done.push(await round())
  } finally {
    await Promise.all([readers.stop(), changes.stop()])
    lateness.stop()
  }
  return {
    report: checker.report(),
    injected: done[0]!.what,
    convergedAfterMs: Math.max(...done.map(({ convergence }) => convergence.tookMs)),
    notConverged: done.flatMap(({ convergence }) => convergence.missing),
    trustLost: done.filter(({ watch }) => watch.lost.length > 0).length,
    rounds,
    trustBackAfterMs: Math.max(...done.map(({ watch }) => watch.backAfterMs)),
    everTrusted,
    failedUnchanged,
    lateMs: Math.max(...done.map(({ lateMs }) => lateMs))
  }
}

/** Waits, for a bounded time; what is missing then shows in the result. */
async function within (condition: () => boolean): Promise<void> {
  const untilMs = performance.now() + settledWithinMs
  while (!condition() && performance.now() < untilMs) await pause(20)
}

function pause (ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}
