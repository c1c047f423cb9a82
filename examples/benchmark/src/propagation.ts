import { parseArgs } from 'node:util'
import { usualProfile } from '@orientor-examples/cluster/harness.js'
import { startPostgres } from '@orientor/test-kit'
import { summarise, type LatencySummary } from './measure/latencies.js'
import { machine } from './measure/machine.js'
import { figure, table } from './measure/table.js'
import { wholeNumber } from './measure/whole-number.js'
import { plainSql, type OpenScene } from './propagation/plain-sql.js'
import { propagate } from './propagation/propagate.js'
import { webhooks } from './propagation/webhooks.js'

const { pollIntervalMs } = usualProfile
/** A way for changes to come, and its goals, in milliseconds: of polls alone by the interval, else as they are. */
interface Way {
  readonly goals: { readonly p50Ms: number, readonly p99Ms: number }
  readonly open: (databaseUrl: string) => Promise<OpenScene>
}
const ways = {
  polls: {
    goals: { p50Ms: 0.6 * pollIntervalMs, p99Ms: 1.5 * pollIntervalMs },
    open: async (databaseUrl: string) => await plainSql(databaseUrl, 'app')
  },
  bell: { goals: { p50Ms: 20, p99Ms: 100 }, open: async (databaseUrl: string) => await plainSql(databaseUrl, 'bell') },
  webhook: { goals: { p50Ms: 25, p99Ms: 150 }, open: webhooks }
} satisfies Record<string, Way>
type WayName = keyof typeof ways
// Of fewer changes the 99th percentile is the longest of all.
const minChanges = 100

const { values: { json, changes, webhook } } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    changes: { type: 'string', default: '500' },
    webhook: { type: 'boolean', default: false }
  }
})
const count = wholeNumber('changes', changes)
const measured: readonly WayName[] = webhook ? ['webhook'] : ['polls', 'bell']

const closers: Array<() => Promise<unknown>> = []
try {
  const how = webhook
    ? 'at the provider, of which the first is told by webhook, with a bell over NOTIFY: from the sending of the ' +
      'webhook to the first answer with the change over HTTP\n'
    : 'with plain SQL: from the return of COMMIT to the first answer with it over HTTP.\n' +
      `By polls alone, every ${pollIntervalMs} ms, and with a bell over NOTIFY beside\n`
  console.log(`${machine()}\n${count.toLocaleString('en')} changes of a user, three instances in processes of ` +
    `their own; ${how}`)
  const server = await startPostgres()
  closers.push(() => server.stop())
  const results = new Map<WayName, LatencySummary & { readonly maxMs: number, readonly slowest: LatencySummary }>()
  const rows: string[][] = []
  for (const way of measured) {
    const scene = await ways[way].open(await server.createDatabase(way))
    try {
      const { slowest, byInstance } = await propagate(scene, count)
      const all = [...byInstance.values()].flat()
      results.set(way, { ...summarise(all), maxMs: Math.max(...all), slowest: summarise(slowest) })
      const together = [['an instance', all], ['the last of the three', slowest]] as const
      for (const [name, times] of [...byInstance, ...together]) {
        const { averageMs, p50Ms, p99Ms } = summarise(times)
        rows.push([`${way}, ${name}`, ...[averageMs, p50Ms, p99Ms, Math.max(...times)].map(figure)])
      }
    } finally {
      await scene.close()
    }
  }
  console.log(table([['', 'average, ms', 'p50, ms', 'p99, ms', 'longest, ms'], ...rows]))
  const judgement = (way: WayName, name: 'p50Ms' | 'p99Ms'): string => {
    const [value, goal] = [results.get(way)![name], ways[way].goals[name]]
    const judged = value <= goal ? 'met' : 'MISSED'
    const verdict = count < minChanges ? `not judged by fewer than ${minChanges} changes` : judged
    return `${way} ${name}: ${figure(value)}; the goal is at most ${figure(goal)}: ${verdict}`
  }
  const judgements = measured.flatMap(way => (['p50Ms', 'p99Ms'] as const).map(name => judgement(way, name)))
  console.log(`\n${judgements.join('\n')}`)
  if (json) {
    console.log(JSON.stringify({ changes: count, instances: 3, pollIntervalMs, ...Object.fromEntries(results) }))
  }
} finally {
  for (const close of closers.reverse()) await close()
}
