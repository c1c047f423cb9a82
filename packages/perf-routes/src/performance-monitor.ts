import type { Clock, Component, Timer } from '@orientor/session-contract/core'
import { readStats } from './component-stats.js'
import { checkComponents, worstOf, type HealthReport, type OnFailure } from './health-report.js'
import { invalidate, type Invalidation } from './invalidation.js'
import { performanceReport, type PerformanceReport } from './performance-report.js'
import { ResponseTimes } from './response-times.js'
import { TimeSeries } from './time-series.js'
import { trendPoint, type Reading, type TrendPoint } from './trend.js'

/** What a monitor is made of. */
export interface PerformanceMonitorOptions {
  /** The components in scope; asked each time, so that they may come later than the monitor. */
  readonly components: () => readonly Component[]
  readonly clock: Clock
  readonly onFailure: OnFailure
}

const trendIntervalMs = 60_000
const maxTrendPoints = 60

/** Watches responses and components, and says how they do. Knows nothing of HTTP servers. */
export class PerformanceMonitor {
  readonly #components: () => readonly Component[]
  readonly #clock: Clock
  readonly #onFailure: OnFailure
  readonly #startedAtMs: number
  readonly #times = new ResponseTimes()
  readonly #cacheHitTimes = new ResponseTimes()
  readonly #history = new TimeSeries<TrendPoint>(maxTrendPoints)
  #serverErrors = 0
  #refusedAccesses = 0
  #reading: Reading | null = null
  #timer: Timer | null = null
  #checking: Promise<HealthReport> | null = null

  constructor ({ components, clock, onFailure }: PerformanceMonitorOptions) {
    this.#components = components
    this.#clock = clock
    this.#onFailure = onFailure
    this.#startedAtMs = clock.monotonic()
  }

  /** Begins the history: one point a minute until stop(), for the last hour. */
  start (): void {
    this.#reading = this.#read()
    this.#schedule()
  }

  /** Ends the history. */
  stop (): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  /**
   * Counts one response; allocates nothing.
   *
   * @param elapsedMs - from the arrival of the request until its answer is made, without the time to send it
   * @param statusCode - of the response; from 500 it counts as a server error
   * @param cacheHit - whether the user of the request came from the cache
   */
  responded (elapsedMs: number, statusCode: number, cacheHit: boolean): void {
    this.#times.record(elapsedMs)
    if (cacheHit) this.#cacheHitTimes.record(elapsedMs)
    if (statusCode >= 500) this.#serverErrors++
  }

  /** Counts one refused access to the monitoring routes and answers how many there were. */
  refused (): number {
    return ++this.#refusedAccesses
  }

  /** How the service performs since the start. Asks the components for their counts; never throws. */
  performance (): PerformanceReport {
    const { count } = this.#times
    return performanceReport({
      generatedAtMs: this.#clock.now(),
      observedForMs: Math.round(this.#clock.monotonic() - this.#startedAtMs),
      stats: readStats(this.#components()),
      responses: {
        count,
        serverErrors: this.#serverErrors,
        reliabilityRatio: count === 0 ? null : (count - this.#serverErrors) / count,
        times: this.#times.summary(),
        cacheHitTimes: this.#cacheHitTimes.summary()
      },
      refusedAccesses: this.#refusedAccesses,
      history: this.#history.values
    })
  }

  /**
   * How the components do. Each is waited for 2 seconds at most; whoever asks while a check is under way gets its answer.
   * Never rejects.
   */
  async health (): Promise<HealthReport> {
    this.#checking ??= this.#check().finally(() => { this.#checking = null })
    return await this.#checking
  }

  /**
   * Tells every component that has something to forget, and waits for each 2 seconds at most.
   *
   * @returns how many instances were told at least; null when that cannot be known
   * @throws ORI_PERF_NOTHING_TO_INVALIDATE, ORI_PERF_INVALIDATION_FAILED
   */
  async invalidate (invalidation: Invalidation): Promise<number | null> {
    return await invalidate(this.#components(), invalidation, this.#clock)
  }

  async #check (): Promise<HealthReport> {
    const components = await checkComponents(this.#components(), this.#clock, this.#onFailure)
    const { rating, databaseLoad, cacheLayers, databaseSync, connectionPool, responses } = this.performance()
    return {
      status: worstOf(components),
      components,
      performanceSummary: {
        rating,
        databaseLoadReductionRatio: databaseLoad.reductionRatio,
        cacheHitRatio: cacheLayers.sessions?.hitRatio ?? null,
        syncSkipRatio: databaseSync?.skipRatio ?? null,
        poolUtilisationRatio: connectionPool?.utilisationRatio ?? null,
        averageResponseMs: responses.times.averageMs
      }
    }
  }

  #schedule (): void {
    this.#timer = this.#clock.setTimer(() => {
      const reading = this.#read()
      this.#history.push(trendPoint(this.#reading!, reading))
      this.#reading = reading
      this.#schedule()
    }, trendIntervalMs)
  }

  #read (): Reading {
    return {
      atMs: this.#clock.now(),
      responses: this.#times.count,
      responseMs: this.#times.sumMs,
      serverErrors: this.#serverErrors,
      stats: readStats(this.#components())
    }
  }
}
