import { parseArgs } from 'node:util'
import { startCluster, usualProfile } from '@orientor-examples/cluster/harness.js'
import { startPostgres } from '@orientor/test-kit'
import { summarise, type LatencySummary } from './measure/latencies.js'
import { machine } from './measure/machine.js'
import { figure, table } from './measure/table.js'
import { wholeNumber } from './measure/whole-number.js'
import { propagate } from './propagation/propagate.js'

const { pollIntervalMs } = usualProfile
/** The goals, in milliseconds: of polls alone by the interval, with a bell as they are. */
const goals = {
  polls: { p50Ms: 0.6 * pollIntervalMs, p99Ms: 1.5 * pollIntervalMs },
  bell: { p50Ms: 20, p99Ms: 100 }
} as const
const ways = { polls: 'app', bell: 'bell' } as const
type Way = keyof typeof ways
// Of fewer changes the 99th percentile is the longest of all.
const minChanges = 100

const { values: { json, changes } } = parseArgs({
  options: { json: { type: 'boolean', default: false }, changes: { type: 'string', default: '500' } }
})
const count = wholeNumber('changes', changes)

const closers: Array<() => Promise<unknown>> = []
try {
  console.log(`${machine()}\n${count.toLocaleString('en')} changes of a user with plain SQL, three instances in ` +
    'processes of their own: from the return of COMMIT to the first answer with it over HTTP.\n' +
    `By polls alone, every ${pollIntervalMs} ms, and with a bell over NOTIFY beside\n`)
  const server = await startPostgres()
  closers.push(() => server.stop())
  const results = new Map<Way, LatencySummary & { readonly maxMs: number, readonly slowest: LatencySummary }>()
  const rows: string[][] = []
  for (const way of Object.keys(ways) as Way[]) {
    const databaseUrl = await server.createDatabase(way)
    const cluster = await startCluster({ databaseUrl, proxied: false, profile: usualProfile, hearing: ways[way] })
    try {
      const { slowest, byInstance } = await propagate(cluster, count)
      const all = [...byInstance.values()].flat()
      results.set(way, { ...summarise(all), maxMs: Math.max(...all), slowest: summarise(slowest) })
      for (const [name, times] of [...byInstance, ['an instance', all] as const, ['the last of the three', slowest] as const]) {
        const { averageMs, p50Ms, p99Ms } = summarise(times)
        rows.push([`${way}, ${name}`, ...[averageMs, p50Ms, p99Ms, Math.max(...times)].map(figure)])
      }
    } finally {
      await cluster.stop()
    }
  }
  console.log(table([['', 'average, ms', 'p50, ms', 'p99, ms', 'longest, ms'], ...rows]))
  const judgement = (way: Way, name: 'p50Ms' | 'p99Ms'): string => {
    const [value, goal] = [results.get(way)![name], goals[way][name]]
    const judged = value <= goal ? 'met' : 'MISSED'
    const verdict = count < minChanges ? `not judged by fewer than ${minChanges} changes` : judged
    return `${way} ${name}: ${figure(value)}; the goal is at most ${figure(goal)}: ${verdict}`
  }
  const judgements = (Object.keys(ways) as Way[])
    .flatMap(way => (['p50Ms', 'p99Ms'] as const).map(name => judgement(way, name)))
  console.log(`\n${judgements.join('\n')}`)
  if (json) {
    console.log(JSON.stringify({ changes: count, instances: 3, pollIntervalMs, ...Object.fromEntries(results) }))
  }
} finally {
  for (const close of closers.reverse()) await close()
}
