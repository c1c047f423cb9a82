import { drive, type Driven, type Load } from '../measure/drive.js'
import { summarise } from '../measure/latencies.js'
import type { Contender, Counters } from './stack.js'

/** One part of the benchmark: the stack beside the usual way. Ratios from 0 to 1, times in milliseconds. */
export interface Part {
  readonly statementsPerAuth: number
  readonly baselineStatementsPerAuth: number
  /** 1 − statements / baseline */
  readonly reduction: number
  /** Lookups that the cache answered without asking the database. */
  readonly hitRate: number
  /** Users looked at by the sync that it had nothing to write for; 1 when it had nobody to look at. */
  readonly syncSkipRate: number
  readonly opsPerSecond: number
  readonly averageMs: number
  readonly baselineAverageMs: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Connections in use as a share of the most there may be: the mean of samples, 50 ms apart. */
  readonly poolUtilisation: number
  readonly executionTimeMs: number
}

/** A part, and figures for the table only. */
export interface Measured {
  readonly part: Part
  readonly baseline: { readonly opsPerSecond: number, readonly p50Ms: number, readonly p99Ms: number, readonly executionTimeMs: number }
  /** Statements as the database counts them and as the stack does, and the cache's count of loads: a statement may serve several. */
  readonly counted: { readonly authentications: number, readonly statements: number, readonly ownStatements: number, readonly loads: number }
}

interface Run {
  readonly driven: Driven
  readonly statements: number
}

const sampleEveryMs = 50

/** Drives the same load against both, one after the other. `loadOf` makes it anew, so that both get the same users in the same order. */
export async function measurePart (stack: Contender, baseline: Contender, loadOf: (url: string) => Load): Promise<Measured> {
  const before = await stack.counters()!
  const samples = sampling(stack)
  const ours = await run(stack, loadOf)
  const utilisation = await samples.stop()
  const after = await stack.counters()!
  const usual = await run(baseline, loadOf)
  return measuredOf(ours, usual, before, after, utilisation)
}

async function run ({ url, statements }: Contender, loadOf: (url: string) => Load): Promise<Run> {
  await statements.reset()
  const driven = await drive(loadOf(url))
  return { driven, statements: await statements.read() }
}

function measuredOf (ours: Run, usual: Run, before: Counters, after: Counters, poolUtilisation: number): Measured {
  const since = (counter: keyof Counters): number => after[counter] - before[counter]
  const statementsPerAuth = ours.statements / ours.driven.times.length
  const baselineStatementsPerAuth = usual.statements / usual.driven.times.length
  const { averageMs: baselineAverageMs, p50Ms, p99Ms } = summarise(usual.driven.times)
  return {
    part: {
      statementsPerAuth,
      baselineStatementsPerAuth,
      reduction: 1 - statementsPerAuth / baselineStatementsPerAuth,
      hitRate: since('cacheHits') / (since('cacheHits') + since('cacheMisses')),
      syncSkipRate: since('syncAttempts') === 0 ? 1 : since('syncsSkipped') / since('syncAttempts'),
      opsPerSecond: perSecond(ours.driven),
      ...summarise(ours.driven.times),
      baselineAverageMs,
      poolUtilisation,
      executionTimeMs: ours.driven.elapsedMs
    },
    baseline: { opsPerSecond: perSecond(usual.driven), p50Ms, p99Ms, executionTimeMs: usual.driven.elapsedMs },
    counted: { authentications: ours.driven.times.length, statements: ours.statements, ownStatements: since('statements'), loads: since('loads') }
  }
}

function perSecond ({ times, elapsedMs }: Driven): number {
  return times.length / (elapsedMs / 1000)
}

/** Samples how much of the pool is in use; an answer that takes longer than the interval skips a sample. */
function sampling (stack: Contender): { stop (): Promise<number> } {
  const seen: number[] = []
  let asking: Promise<void> | null = null
  const sample = (): void => {
    asking ??= stack.counters()!.then(({ poolUtilisation }) => {
      seen.push(poolUtilisation)
      asking = null
    })
  }
  sample()
  const timer = setInterval(sample, sampleEveryMs)
  return {
    async stop () {
      clearInterval(timer)
      await asking
      return seen.reduce((sum, value) => sum + value, 0) / seen.length
    }
  }
}
