import { execFileSync } from 'node:child_process'
import { sessionKey, type Component, type Health, type SessionKey } from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import { expectTypeOf } from 'expect-type'
import t from 'tap'
import {
  adminKey, baselineStatementsPerAuthentication, errors, PerformanceMonitor, ratingBasisOf, ratingOf, readInvalidation, resolveOptions, targetsOf,
  type AdminKeyRule, type HealthReport, type Invalidation, type Measure, type Measures, type PerformanceReport, type PerfRoutesErrorCode, type PerfRoutesOptions, type Rating
} from '../src/core.js'
import { guard } from '../src/guard.js'
import { problemOf } from '../src/problem.js'
import { ResponseTimes } from '../src/response-times.js'
import { TimeSeries } from '../src/time-series.js'

const issuer = 'https://clerk.example.com'
const strongKey = 'k'.repeat(32)

function component (name: string, parts: Partial<Omit<Component, 'name'>> = {}): Component {
  return { name, instruments: [], stats: () => ({}), health: () => ({ status: 'healthy', reason: 'Fine', checkedAtMs: 1 }), ...parts }
}

function setup (...components: readonly Component[]) {
  const clock = new ManualClock()
  const failures: Array<readonly [string, unknown]> = []
  const found = [...components]
  const monitor = new PerformanceMonitor({ components: () => found, clock, onFailure: (name, error) => { failures.push([name, error]) } })
  return { clock, monitor, found, failures }
}

/** The components of the whole stack, with the counts of a good day. */
const stack = [
  component('sessionIdentity', { stats: () => ({ hits: 900, verified: 100, cachedTokens: 90 }) }),
  component('sessionCache', { stats: () => ({ cacheHits: 870, cacheMisses: 130, entries: 130, evictions: 2, invalidations: 3 }) }),
  component('databaseSync', { stats: () => ({ attempts: 130, performed: 20, skipped: 105, errors: 5, profileCreates: 7 }) }),
  component('connectionPool', { stats: () => ({ total: 5, idle: 2, active: 3, waiting: 0, size: 5, maxOverflow: 10, checkouts: 100, immediateCheckouts: 85 }) })
]

t.test('Performance', async t => {
  t.test('A report says what every layer counted and what follows from it.', async t => {
    const { monitor, clock } = setup(...stack)
    clock.advance(5000)
    monitor.responded(20, 200, true)
    monitor.responded(40, 404, false)
    const report = monitor.performance()
    t.match(report, {
      generatedAtMs: clock.now(),
      observedForMs: 5000,
      rating: 'EXCELLENT',
      cacheLayers: {
        verifiedTokens: { hits: 900, misses: 100, hitRatio: 0.9, entries: 90, evictions: null, invalidations: null },
        sessions: { hits: 870, misses: 130, hitRatio: 0.87, entries: 130, evictions: 2, invalidations: 3 }
      },
      databaseLoad: { authentications: 1000, statements: 150, statementsFrom: 'estimated', statementsPerAuthentication: 0.15, baselineStatementsPerAuthentication: 2.1 },
      databaseSync: { attempts: 130, performed: 20, skipped: 105, errors: 5, profileCreates: 7, skipRatio: 105 / 130 },
      connectionPool: { total: 5, idle: 2, active: 3, waiting: 0, size: 5, maxOverflow: 10, checkouts: 100, utilisationRatio: 0.2, efficiencyRatio: 0.85 },
      responses: { count: 2, serverErrors: 0, reliabilityRatio: 1, times: { count: 2, averageMs: 30 }, cacheHitTimes: { count: 1, averageMs: 20 } },
      refusedAccesses: 0,
      history: []
    })
    t.equal(report.databaseLoad.reductionRatio, 1 - 0.15 / baselineStatementsPerAuthentication)
    t.strictSame(report.components['connectionPool'], stack[3]!.stats())
  })

  t.test('Without components everything is null or nothing, and there is no rating.', async t => {
    const report = setup().monitor.performance()
    t.match(report, { rating: null, cacheLayers: { verifiedTokens: null, sessions: null }, databaseSync: null, connectionPool: null, components: {} })
    t.strictSame(report.databaseLoad, { authentications: null, statements: null, statementsFrom: null, statementsPerAuthentication: null, baselineStatementsPerAuthentication: 2.1, reductionRatio: null })
    t.ok(report.targets.every(({ value, met }) => value === null && met === null))
    t.strictSame(report.responses.times.buckets.map(bucket => bucket.count), new Array(16).fill(0))
  })

  t.test('Counts that are missing, not finite, or all nought never become NaN: they are null.', async t => {
    const names = ['sessionIdentity', 'sessionCache', 'databaseSync', 'connectionPool']
    const odd = [
      () => ({}),
      () => ({ cacheHits: NaN, cacheMisses: Infinity, hits: NaN, attempts: NaN, active: Infinity, size: NaN, checkouts: 0, immediateCheckouts: 0 }),
      () => ({ hits: 0, verified: 0, cacheHits: 0, cacheMisses: 0, attempts: 0, performed: 0, skipped: 0, active: 0, size: 0, maxOverflow: 0, checkouts: 0, immediateCheckouts: 0 }),
      () => { throw new Error('stats are broken') },
      () => undefined as unknown as Record<string, number>
    ]
    for (const stats of odd) {
      const report = setup(...names.map(name => component(name, { stats }))).monitor.performance()
      t.equal(report.rating, null)
      JSON.stringify(report, (_key, value: unknown) => {
        if (typeof value === 'number' && !Number.isFinite(value)) t.fail('not finite')
        return value
      })
    }
  })

  t.test('Statements are taken from the component that counts them, and lookups from the cache that does.', async t => {
    const { monitor } = setup(
      component('sessionCache', { stats: () => ({ lookups: 1000, cacheHits: 700, cacheMisses: 100 }) }),
      component('databaseSync', { stats: () => ({ attempts: 100, performed: 50, statements: 20 }) }))
    t.match(monitor.performance().databaseLoad, { authentications: 1000, statements: 20, statementsFrom: 'counted', statementsPerAuthentication: 0.02 })
  })

  t.test('Without a cache every attempt to sync is an authentication, and a load above the baseline is a negative reduction.', async t => {
    const { monitor } = setup(component('databaseSync', { stats: () => ({ attempts: 10, performed: 10, statements: 42 }) }))
    const { databaseLoad } = monitor.performance()
    t.match(databaseLoad, { authentications: 10, statementsPerAuthentication: 4.2, reductionRatio: -1 })
  })

  t.test('A pool without overflow is used as far as its size goes.', async t => {
    t.equal(setup(component('connectionPool', { stats: () => ({ active: 2, size: 4 }) })).monitor.performance().connectionPool?.utilisationRatio, 0.5)
  })

  t.test('Of two components with one name the one of the nearest scope counts, and one that comes late is found.', async t => {
    const { monitor, found } = setup(component('sessionCache', { stats: () => ({ cacheHits: 1, cacheMisses: 1 }) }))
    found.push(component('sessionCache', { stats: () => ({ cacheHits: 3, cacheMisses: 1 }) }), component('__proto__', { stats: () => ({ odd: 1 }) }))
    const report = monitor.performance()
    t.equal(report.cacheLayers.sessions?.hitRatio, 0.75)
    t.strictSame(Object.keys(report.components), ['sessionCache', '__proto__'])
  })

  t.test('Server errors lower reliability; client errors do not.', async t => {
    const { monitor } = setup()
    for (const status of [200, 404, 499, 500, 503]) monitor.responded(1, status, false)
    t.match(monitor.performance().responses, { count: 5, serverErrors: 2, reliabilityRatio: 0.6 })
  })

  t.test('Refused accesses are counted.', async t => {
    const { monitor } = setup()
    t.equal(monitor.refused(), 1)
    t.equal(monitor.refused(), 2)
    t.equal(monitor.performance().refusedAccesses, 2)
  })
})

t.test('History', async t => {
  t.test('Each minute adds a point of what happened in it alone.', async t => {
    const counts = { cacheHits: 0, cacheMisses: 100, attempts: 100, performed: 100, skipped: 0, active: 1, size: 4 }
    const { monitor, clock } = setup(...['sessionCache', 'databaseSync', 'connectionPool'].map(name => component(name, { stats: () => counts })))
    monitor.start()
    clock.advance(59_999)
    t.strictSame(monitor.performance().history, [])
    Object.assign(counts, { cacheHits: 90, cacheMisses: 110, attempts: 110, performed: 102, skipped: 8 })
    monitor.responded(10, 200, true)
    monitor.responded(30, 500, false)
    clock.advance(1)
    const [point] = monitor.performance().history
    t.strictSame(point, {
      atMs: clock.now(), responses: 2, averageMs: 20, serverErrors: 1, cacheHitRatio: 0.9, syncSkipRatio: 0.8, statementsPerAuthentication: 0.12, poolUtilisationRatio: 0.25
    })
    clock.advance(60_000)
    t.match(monitor.performance().history[1], { responses: 0, averageMs: null, serverErrors: 0, cacheHitRatio: null, syncSkipRatio: null, statementsPerAuthentication: null, poolUtilisationRatio: 0.25 })
  })

  t.test('A counter that began again makes a gap and no negative number.', async t => {
    const counts = { cacheHits: 50, cacheMisses: 50 }
    const { monitor, clock } = setup(component('sessionCache', { stats: () => counts }))
    monitor.start()
    Object.assign(counts, { cacheHits: 10, cacheMisses: 150 })
    clock.advance(60_000)
    t.equal(monitor.performance().history[0]?.cacheHitRatio, null)
  })

  t.test('It goes back an hour and ends with stop(), which leaves no timer.', async t => {
    const { monitor, clock } = setup()
    monitor.stop()
    monitor.start()
    clock.advance(70 * 60_000)
    const { history } = monitor.performance()
    t.equal(history.length, 60)
    t.equal(history[0]?.atMs, clock.now() - 59 * 60_000, 'oldest first')
    t.equal(history[59]?.atMs, clock.now())
    monitor.stop()
    t.equal(clock.pendingTimers, 0)
  })

  t.test('A time series keeps the last values in order.', async t => {
    const series = new TimeSeries<number>(3)
    for (const value of [1, 2]) series.push(value)
    t.strictSame(series.values, [1, 2])
    for (const value of [3, 4, 5, 6, 7]) series.push(value)
    t.strictSame(series.values, [5, 6, 7])
  })
})

t.test('Response times', async t => {
  t.test('A time falls into the bucket whose bound it does not exceed, and above all bounds into the last.', async t => {
    const times = new ResponseTimes()
    for (const ms of [0, 0.5, 0.51, 100, 100.1, 10_000, 10_001]) times.record(ms)
    const { buckets, count, maxMs } = times.summary()
    const at = (upToMs: number | null) => buckets.find(bucket => bucket.upToMs === upToMs)?.count
    t.strictSame([at(0.5), at(1), at(100), at(250), at(10_000), at(null)], [2, 1, 1, 1, 1, 1])
    t.equal(count, 7)
    t.equal(maxMs, 10_001)
  })

  t.test('What is no time is not counted.', async t => {
    const times = new ResponseTimes()
    for (const ms of [NaN, -1]) times.record(ms)
    t.match(times.summary(), { count: 0, averageMs: null, p50Ms: null, p95Ms: null, p99Ms: null, maxMs: null })
  })

  t.test('Percentiles lie in the bucket of the true value and never above the maximum.', async t => {
    const times = new ResponseTimes()
    for (let ms = 1; ms <= 1000; ms++) times.record(ms / 10)
    const { p50Ms, p95Ms, p99Ms, averageMs } = times.summary()
    t.ok(p50Ms! >= 49 && p50Ms! <= 51, `p50 ${p50Ms}`)
    t.ok(p95Ms! >= 94 && p95Ms! <= 96, `p95 ${p95Ms}`)
    t.ok(p99Ms! >= 98 && p99Ms! <= 100, `p99 ${p99Ms}`)
    t.ok(Math.abs(averageMs! - 50.05) < 1e-6)
    const lone = new ResponseTimes()
    lone.record(51)
    t.equal(lone.summary().p99Ms, 51)
    lone.record(60_000)
    t.equal(lone.summary().p99Ms, 60_000)
  })
})

t.test('Rating', async t => {
  const good = { databaseLoadReductionRatio: 0.848, cacheHitRatio: 0.87, cacheHitResponseMs: 45, syncSkipRatio: 0.78, poolEfficiencyRatio: 0.85, reliabilityRatio: 0.992 }
  const bad = { databaseLoadReductionRatio: 0.5, cacheHitRatio: 0.5, cacheHitResponseMs: 150, syncSkipRatio: 0.5, poolEfficiencyRatio: 0.5, reliabilityRatio: 0.9 }
  const names = Object.keys(good) as Array<keyof Measures>
  const measures = (measure: (name: keyof Measures, index: number) => Measure): Measures => Object.fromEntries(names.map((name, index) => [name, measure(name, index)])) as unknown as Measures
  const rated = (missed: number, known = names.length): Rating | null => ratingOf(targetsOf(measures((name, index) => ({ value: index >= known ? null : index < missed ? bad[name] : good[name], samples: 100 }))))

  t.test('All targets met is excellent, one missed good, up to half fair, more poor.', async t => {
    t.strictSame([0, 1, 2, 3, 4, 5, 6].map(missed => rated(missed)), ['EXCELLENT', 'GOOD', 'FAIR', 'FAIR', 'POOR', 'POOR', 'POOR'])
  })

  t.test('Only known values are judged, and fewer than three of them not at all.', async t => {
    t.strictSame([rated(0, 0), rated(0, 2), rated(1, 2), rated(0, 3), rated(1, 3), rated(2, 3), rated(2, 4)], [null, null, null, 'EXCELLENT', 'GOOD', 'POOR', 'FAIR'])
  })

  t.test('The bounds are those of the table: reached for reduction and reliability, exceeded for the other ratios, not reached for the time.', async t => {
    const met = (values: Record<keyof Measures, number>) => targetsOf(measures(name => ({ value: values[name], samples: 100 }))).map(target => target.met)
    t.strictSame(met({ databaseLoadReductionRatio: 0.8, cacheHitRatio: 0.8, cacheHitResponseMs: 100, syncSkipRatio: 0.7, poolEfficiencyRatio: 0.75, reliabilityRatio: 0.99 }), [true, false, false, false, false, true])
    t.strictSame(met({ databaseLoadReductionRatio: 0.799, cacheHitRatio: 0.801, cacheHitResponseMs: 99.9, syncSkipRatio: 0.701, poolEfficiencyRatio: 0.751, reliabilityRatio: 0.989 }), [false, true, true, true, true, false])
  })

  t.test('After the first request, which must miss every cache, there is no rating, and the report says how much is missing.', async t => {
    const { monitor } = setup(
      component('sessionCache', { stats: () => ({ lookups: 1, cacheHits: 0, cacheMisses: 1 }) }),
      component('databaseSync', { stats: () => ({ attempts: 1, performed: 1, skipped: 0, statements: 5 }) }),
      component('connectionPool', { stats: () => ({ checkouts: 8, immediateCheckouts: 2 }) }))
    monitor.responded(120, 200, false)
    const { rating, ratingBasis, targets } = monitor.performance()
    t.equal(rating, null)
    t.strictSame(ratingBasis, { minSamples: 100, minTargets: 3, judgedTargets: 0, missingSamples: 99 })
    t.strictSame(targets.map(({ name, samples, missingSamples, met }) => [name, samples, missingSamples, met]), [
      ['databaseLoadReductionRatio', 1, 99, null], ['cacheHitRatio', 1, 99, null], ['cacheHitResponseMs', 0, 100, null],
      ['syncSkipRatio', 1, 99, null], ['poolEfficiencyRatio', 8, 92, null], ['reliabilityRatio', 1, 99, null]
    ])
    t.ok(targets.filter(({ name }) => name !== 'cacheHitResponseMs').every(({ value }) => value !== null), 'what is known so far is shown all the same')
    t.equal((await monitor.health()).performanceSummary.rating, null, 'nor has the health report one')
  })

  t.test('Each value is judged from its own hundredth sample on, good or bad.', async t => {
    for (const [samples, missingSamples] of [[0, 100], [1, 99], [99, 1], [100, 0], [1_000_000, 0]] as const) {
      for (const [values, met] of [[good, true], [bad, false]] as const) {
        const targets = targetsOf(measures((name, index) => ({ value: samples === 0 && index === 0 ? null : values[name], samples: index === 0 ? samples : 100 })))
        t.match(targets[0], { samples, missingSamples, met: missingSamples === 0 ? met : null }, `${samples} samples`)
        t.ok(targets.slice(1).every(target => target.met === met), 'the others wait for nothing')
        t.equal(ratingBasisOf(targets).judgedTargets, missingSamples === 0 ? 6 : 5)
      }
    }
  })

  t.test('What is missing for a rating is what its third target lacks; where too few components count anything it is not known.', async t => {
    const missing = (...samples: ReadonlyArray<number | null>) => {
      const targets = targetsOf(measures((name, index) => ({ value: (samples[index] ?? null) === null ? null : good[name], samples: samples[index] ?? null })))
      t.equal(ratingOf(targets) === null, ratingBasisOf(targets).missingSamples !== 0, 'there is a rating exactly when nothing is missing')
      return ratingBasisOf(targets).missingSamples
    }
    t.strictSame([missing(100, 100, 100), missing(500, 70, 100), missing(10, 20, 30), missing(10, 20, 30, 40), missing(100, 99, 98, 97, 96, 95)], [0, 30, 90, 80, 2])
    t.strictSame([missing(), missing(100, 100), missing(null, 100, null, 100, null, null)], [null, null, null])
    const unread = targetsOf(measures((name, index) => ({ value: index < 2 ? good[name] : null, samples: 100 })))
    t.strictSame(unread.map(target => target.missingSamples), [0, 0, null, null, null, null], 'a value that no component gives does not come with time')
    t.equal(ratingBasisOf(unread).missingSamples, null)
  })
})

t.test('Health', async t => {
  const answers = (status: Health['status']) => () => ({ status, reason: `It is ${status}`, checkedAtMs: 7 })

  t.test('Components that are absent say so and make nobody ill.', async t => {
    const { monitor, clock } = setup()
    const { status, components } = await monitor.health()
    t.equal(status, 'healthy')
    t.strictSame(Object.keys(components), ['sessionIdentity', 'sessionCache', 'databaseSync', 'connectionPool'])
    for (const health of Object.values(components)) t.strictSame(health, { status: 'absent', reason: 'No such plugin is registered in this scope', checkedAtMs: clock.now() })
  })

  t.test('The status is the worst of all components, asynchronous and foreign ones included.', async t => {
    const { monitor, found } = setup(component('sessionCache', { health: answers('healthy') }))
    t.equal((await monitor.health()).status, 'healthy')
    found.push(component('searchIndex', { health: async () => answers('degraded')() }))
    t.match(await monitor.health(), { status: 'degraded', components: { sessionCache: { status: 'healthy' }, searchIndex: { status: 'degraded', reason: 'It is degraded', checkedAtMs: 7 } } })
    found.push(component('connectionPool', { health: answers('unhealthy') }), component('connectionPool', { health: answers('healthy') }))
    t.match(await monitor.health(), { status: 'unhealthy', components: { connectionPool: { status: 'unhealthy' } } }, 'of two with one name the worse')
  })

  t.test('A component that throws, rejects or talks nonsense is unhealthy, and its error stays inside.', async t => {
    const canary = 'postgres://admin:hunter2@db.internal:5432/app SELECT * FROM users'
    const broken: ReadonlyArray<Component['health']> = [
      () => { throw new Error(canary) },
      async () => { throw new Error(canary) },
      () => null as unknown as Health,
      () => ({ status: 'toString', reason: canary, checkedAtMs: 1 } as unknown as Health),
      () => ({ status: 'absent', reason: canary, checkedAtMs: 1 } as unknown as Health),
      () => ({ status: 'healthy', reason: 5, checkedAtMs: NaN } as unknown as Health)
    ]
    const { monitor, failures } = setup(...broken.map((health, index) => component(`c${index}`, { health })))
    const report = await monitor.health()
    t.equal(report.status, 'unhealthy')
    t.strictSame(broken.map((_, index) => report.components[`c${index}`]?.status), broken.map(() => 'unhealthy'))
    t.notMatch(JSON.stringify(report), /hunter2|db\.internal|SELECT/)
    t.strictSame(failures.map(([name]) => name).sort(), ['c0', 'c1', 'c2'])
  })

  t.test('A component that hangs is unhealthy after two seconds, and the others are not kept from answering.', async t => {
    let late!: (error: Error) => void
    const { monitor, clock, failures } = setup(
      component('connectionPool', { health: async () => await new Promise<Health>((_resolve, reject) => { late = reject }) }),
      component('sessionCache'))
    const pending = monitor.health()
    await clock.settle()
    clock.advance(1999)
    await clock.settle()
    t.equal(clock.pendingTimers, 1, 'still waiting')
    clock.advance(1)
    t.match(await pending, { status: 'unhealthy', components: { sessionCache: { status: 'healthy' }, connectionPool: { reason: 'The health check did not answer in time' } } })
    t.match(failures, [['connectionPool', { name: 'TimeoutError' }]])
    late(new Error('too late'))
    await clock.settle()
    t.equal(clock.pendingTimers, 0)
  })

  t.test('Whoever asks while a check is under way gets its answer; the next one asks anew.', async t => {
    let asked = 0
    const { monitor } = setup(component('sessionCache', { health: async () => { asked++; return answers('healthy')() } }))
    const [one, two] = await Promise.all([monitor.health(), monitor.health()])
    t.equal(one, two)
    t.equal(asked, 1)
    await monitor.health()
    t.equal(asked, 2)
  })

  t.test('The summary holds the main figures of the performance report.', async t => {
    const { monitor } = setup(...stack)
    monitor.responded(12, 200, true)
    t.match((await monitor.health()).performanceSummary, { rating: 'EXCELLENT', databaseLoadReductionRatio: 1 - 0.15 / 2.1, cacheHitRatio: 0.87, syncSkipRatio: 105 / 130, poolUtilisationRatio: 0.2, averageResponseMs: 12 })
    t.strictSame((await setup().monitor.health()).performanceSummary, { rating: null, databaseLoadReductionRatio: null, cacheHitRatio: null, syncSkipRatio: null, poolUtilisationRatio: null, averageResponseMs: null })
  })
})

t.test('Invalidation', async t => {
  t.test('A body names one user or all, with a reason or without.', async t => {
    const key = sessionKey(issuer, 'user_1')
    t.match(readInvalidation({ issuer, subject: 'user_1' }, null), { target: { key }, reason: String })
    t.match(readInvalidation({ subject: 'user_1', reason: 'support' }, issuer), { target: { key }, reason: 'support' })
    t.match(readInvalidation({ issuer: 'https://other', subject: 'user_1' }, issuer), { target: { key: sessionKey('https://other', 'user_1') } })
    t.strictSame(readInvalidation({ all: true, reason: 'x'.repeat(200) }, null), { target: 'all', reason: 'x'.repeat(200) })
  })

  t.test('Anything else is refused with the rule, and without the value.', async t => {
    const canary = 'canary@example.com'
    const bodies: unknown[] = [
      null, undefined, 'text', 5, [], {}, { subject: canary }, { issuer: canary }, { issuer, subject: '' }, { issuer, subject: `${canary}\0` }, { issuer, subject: 5 },
      { issuer: `${canary} x`, subject: 'a' }, { issuer: null, subject: 'a' }, { all: false }, { all: canary }, { all: true, subject: canary }, { all: true, issuer: canary },
      { issuer, subject: 'a', [canary]: 1 }, { all: true, user: 1 }, { all: true, reason: '' }, { all: true, reason: `${canary}\n` }, { all: true, reason: canary.repeat(20) }, { all: true, reason: 7 }
    ]
    for (const body of bodies) {
      try {
        readInvalidation(body, null)
        t.fail(`accepted ${JSON.stringify(body)}`)
      } catch (error) {
        t.match(error, { code: 'ORI_PERF_INVALID_REQUEST', statusCode: 400, message: /must be|is missing|not known|either/ })
        t.notMatch((error as Error).message, /canary/)
      }
    }
    t.throws(() => readInvalidation({ all: true, issuer }, issuer), { code: 'ORI_PERF_INVALID_REQUEST' })
  })

  t.test('Every component that can is told; the answer is the least number of instances, or null when one does not know.', async t => {
    const told: unknown[] = []
    const able = (instances: number | null) => component('sessionCache', { admin: { invalidate: async (target, reason) => { told.push([target, reason]); return { instances } } } })
    const request: Invalidation = { target: { key: sessionKey(issuer, 'u') }, reason: 'support' }
    t.equal(await setup(able(3), component('connectionPool'), able(2), component('databaseSync', { admin: {} })).monitor.invalidate(request), 2)
    t.strictSame(told, [[request.target, 'support'], [request.target, 'support']])
    t.equal(await setup(able(3), able(null)).monitor.invalidate({ target: 'all', reason: 'r' }), null)
  })

  t.test('Where nobody can, where one fails and where one hangs, the error says which of it.', async t => {
    const request: Invalidation = { target: 'all', reason: 'r' }
    await t.rejects(setup(component('connectionPool')).monitor.invalidate(request), { code: 'ORI_PERF_NOTHING_TO_INVALIDATE', statusCode: 409 })
    const cause = new Error('bus is down')
    await t.rejects(setup(component('sessionCache', { admin: { invalidate: async () => { throw cause } } })).monitor.invalidate(request), { code: 'ORI_PERF_INVALIDATION_FAILED', statusCode: 503, cause })
    const { monitor, clock } = setup(component('sessionCache', { admin: { invalidate: async () => await new Promise<never>(() => {}) } }))
    const pending = t.rejects(monitor.invalidate(request), { code: 'ORI_PERF_INVALIDATION_FAILED', cause: { name: 'TimeoutError' } })
    await clock.settle()
    clock.advance(2000)
    await pending
  })
})

t.test('Guard', async t => {
  const asking = (value?: string | string[]) => ({ headers: { 'x-admin-key': value } })

  t.test('An admin key is a string of at least 32 visible ASCII characters; others are refused without being shown.', async t => {
    for (const weak of ['', 'short-canary', 'c'.repeat(31), `${'c'.repeat(31)} `, `${'c'.repeat(40)}\n`, 'é'.repeat(40), undefined, 5, [], [strongKey, 'short-canary']]) {
      try {
        adminKey(weak as string)
        t.fail(`accepted ${JSON.stringify(weak)}`)
      } catch (error) {
        t.match(error, { code: 'ORI_PERF_INVALID_ADMIN_KEY', message: /at least 32 visible ASCII characters; received/ })
        t.notMatch((error as Error).message, /canary|ccc/)
      }
    }
    t.doesNotThrow(() => adminKey(strongKey))
  })

  t.test('One of several keys opens; nothing else does.', async t => {
    const other = 'o'.repeat(40)
    const rule = adminKey([strongKey, other])
    t.ok(rule(asking(strongKey)))
    t.ok(rule(asking(other)))
    for (const value of [undefined, '', 'x', `${strongKey}x`, strongKey.slice(1), strongKey.toUpperCase(), `${strongKey}, ${other}`, [strongKey], 'x'.repeat(10_000)]) t.notOk(rule(asking(value)))
  })

  t.test('Only true lets in, and a rule that throws lets nobody in.', async t => {
    await guard(() => true, {})
    await guard(async () => true, {})
    for (const answer of [false, undefined, null, 1, 'true', {}, Promise.resolve(false), Promise.resolve(1)]) {
      await t.rejects(guard(() => answer as boolean, {}), { code: 'ORI_PERF_FORBIDDEN', statusCode: 403 })
    }
    await t.rejects(guard(adminKey(strongKey), asking('wrong')), { code: 'ORI_PERF_UNAUTHORIZED', statusCode: 401 })
    const cause = new Error('directory is down')
    await t.rejects(guard(() => { throw cause }, {}), { code: 'ORI_PERF_AUTHORIZE_FAILED', statusCode: 500, cause })
    await t.rejects(guard(async () => { throw cause }, {}), { code: 'ORI_PERF_AUTHORIZE_FAILED', cause })
  })
})

t.test('Options', async t => {
  t.test('Without authorize the error shows the fix.', async t => {
    for (const input of [{}, undefined, { authorize: undefined }, { prefix: '/x' }]) {
      t.throws(() => resolveOptions(input), { code: 'ORI_PERF_NO_GUARD', message: /"authorize" is missing.*adminKey\(process\.env\.ADMIN_KEY\).*authorize: false/ })
    }
  })

  t.test('What is left out has a default.', async t => {
    t.match(resolveOptions({ authorize: false }), { authorize: false, prefix: '/database', issuer: null })
    const authorize = adminKey(strongKey)
    t.match(resolveOptions({ authorize, prefix: '/ops/db.v1', issuer }), { authorize, prefix: '/ops/db.v1', issuer })
  })

  t.test('A wrong option is refused with what it must be.', async t => {
    const wrong: ReadonlyArray<readonly [unknown, RegExp]> = [
      [{ authorise: false }, /"authorise" is not known\. The options are: authorize/],
      [{ authorize: true }, /"authorize" must be adminKey\(\), a function/],
      [{ authorize: strongKey }, /"authorize" must be/],
      [{ authorize: null }, /"authorize" must be/],
      ...['', '/', 'database', '/database/', '/:id', '/a//b', 5].map(prefix => [{ authorize: false, prefix }, /"prefix" must be a path/] as const),
      [{ authorize: false, issuer: 'a b' }, /"issuer" must be/],
      [{ authorize: false, clock: {} }, /"clock" must be a clock/],
      ['text', /the options must be an object/]
    ]
    for (const [input, message] of wrong) t.throws(() => resolveOptions(input), { code: 'ORI_CONTRACT_INVALID_OPTION', message }, JSON.stringify(input))
  })
})

t.test('Problems', async t => {
  t.test('Only errors of this package speak for themselves.', async t => {
    t.match(problemOf(new errors.NothingToInvalidate(), 'r1'), { type: 'about:blank', title: 'Conflict', status: 409, code: 'ORI_PERF_NOTHING_TO_INVALIDATE', detail: /No plugin in scope/, requestId: 'r1' })
    const foreign = (parts: object) => problemOf(Object.assign(new Error('canary'), parts), 'r1')
    t.match(foreign({}), { status: 500, title: 'Internal Server Error', code: 'ORI_PERF_FAILED', detail: /see the log/ })
    t.match(foreign({ statusCode: 415, code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE' }), { status: 415, code: 'FST_ERR_CTP_INVALID_MEDIA_TYPE', detail: /application\/json/ })
    t.match(foreign({ statusCode: 429, code: 'canary-code' }), { status: 429, title: 'Too Many Requests', code: 'ORI_PERF_FAILED', detail: 'The request was refused' })
    for (const statusCode of [200, 999, NaN, '400']) t.equal(foreign({ statusCode }).status, 500)
    for (const thrown of ['canary', null, undefined]) t.equal(problemOf(thrown, 'r1').status, 500)
    t.notMatch(JSON.stringify([foreign({}), foreign({ statusCode: 429, code: 'canary-code' }), problemOf('canary', 'r1')]), /canary/)
  })
})

t.test('The core loads without Fastify.', async t => {
  const script = `
    import { register } from 'node:module'
    register('data:text/javascript,' + encodeURIComponent("export async function resolve (name, context, next) { if (/^fastify/.test(name)) throw new Error('Fastify was asked for'); return next(name, context) }"))
    const { PerformanceMonitor, adminKey } = await import(${JSON.stringify(new URL('../dist/core.js', import.meta.url).href)})
    process.stdout.write(typeof PerformanceMonitor + typeof adminKey)`
  t.equal(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }), 'functionfunction')
})

t.test('Types say what is answered and refuse what is not allowed.', async t => {
  expectTypeOf<PerformanceMonitor['performance']>().returns.toEqualTypeOf<PerformanceReport>()
  expectTypeOf<PerformanceMonitor['health']>().returns.resolves.toEqualTypeOf<HealthReport>()
  expectTypeOf<PerformanceReport['rating']>().toEqualTypeOf<'EXCELLENT' | 'GOOD' | 'FAIR' | 'POOR' | null>()
  expectTypeOf<HealthReport['status']>().toEqualTypeOf<Health['status']>()
  expectTypeOf(adminKey).returns.toEqualTypeOf<AdminKeyRule>()
  expectTypeOf(adminKey).parameter(0).toEqualTypeOf<string | readonly string[]>()
  expectTypeOf<Exclude<Invalidation['target'], 'all'>>().toEqualTypeOf<{ readonly key: SessionKey }>()
  expectTypeOf<PerfRoutesErrorCode>().not.toBeAny()
  expectTypeOf<'ORI_PERF_NO_GUARD'>().toMatchTypeOf<PerfRoutesErrorCode>()
  // @ts-expect-error authorize is required
  const unguarded: PerfRoutesOptions<object> = { prefix: '/database' }
  // @ts-expect-error true would let everybody in without saying so
  const open: PerfRoutesOptions<object> = { authorize: true }
  // @ts-expect-error a text is no rule
  const text: PerfRoutesOptions<object> = { authorize: () => 'yes' }
  const guarded: ReadonlyArray<PerfRoutesOptions<{ readonly headers: Record<string, string> }>> = [{ authorize: false }, { authorize: adminKey(strongKey) }, { authorize: async () => true }]
  t.ok(unguarded && open && text && guarded)
})
