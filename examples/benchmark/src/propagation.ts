import { parseArgs } from 'node:util'
import { startCluster, usualProfile } from '@orientor-examples/cluster/harness.js'
import { startPostgres } from '@orientor/test-kit'
import { summarise } from './measure/latencies.js'
import { machine } from './measure/machine.js'
import { figure, table } from './measure/table.js'
import { wholeNumber } from './measure/whole-number.js'
import { propagate } from './propagation/propagate.js'

const goals = { p50Ms: 10, p99Ms: 100 } as const
// Of fewer changes the 99th percentile is the longest of all.
const minChanges = 100

const { values: { json, changes } } = parseArgs({ options: { json: { type: 'boolean', default: false }, changes: { type: 'string', default: '1000' } } })
const count = wholeNumber('changes', changes)

const closers: Array<() => Promise<unknown>> = []
try {
  console.log(`${machine()}\n${count.toLocaleString('en')} changes of a user with plain SQL, three instances in processes of their own: from the return of COMMIT to the first answer with it over HTTP\n`)
  const server = await startPostgres()
  closers.push(() => server.stop())
  const cluster = await startCluster({ databaseUrl: await server.createDatabase('propagation'), proxied: false, profile: usualProfile })
  closers.push(() => cluster.stop())
  const { slowest, byInstance } = await propagate(cluster, count)
  const result = { ...summarise(slowest), maxMs: Math.max(...slowest), changes: count, instances: byInstance.size }
  console.log(table([
    ['', 'average, ms', 'p50, ms', 'p99, ms', 'longest, ms'],
    ...[...byInstance, ['every instance', slowest] as const].map(([name, times]) => {
      const { averageMs, p50Ms, p99Ms } = summarise(times)
      return [name, ...[averageMs, p50Ms, p99Ms, Math.max(...times)].map(figure)]
    })
  ]))
  const judgement = (name: keyof typeof goals): string => count < minChanges ? `not judged by fewer than ${minChanges} changes` : result[name] <= goals[name] ? 'met' : 'MISSED'
  console.log(`\n${(['p50Ms', 'p99Ms'] as const).map(name => `${name}: ${figure(result[name])}; the goal is at most ${goals[name]}: ${judgement(name)}`).join('\n')}`)
  if (json) console.log(JSON.stringify(result))
} finally {
  for (const close of closers.reverse()) await close()
}
