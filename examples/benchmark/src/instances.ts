import { parseArgs } from 'node:util'
import type { WatchedTable } from '@orientor/session-contract/core'
import { startPostgres } from '@orientor/test-kit'
import pg from 'pg'
import { Crowd, type CrowdCost } from './instances/crowd.js'
import { simulate } from './instances/simulate.js'
import { machine } from './measure/machine.js'
import { figure, table } from './measure/table.js'
import { wholeNumber } from './measure/whole-number.js'

// The CPU time that instances cost the server by polling it.
const partitions = 1000
const partitionedInstances = 50
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '10' },
    instances: { type: 'string', default: '10,50,100,200' },
    interval: { type: 'string', default: '1000' }
  }
})
const windowMs = wholeNumber('seconds', values.seconds) * 1000
const pollIntervalMs = wholeNumber('interval', values.interval)
const counts = values.instances.split(',').map(count => wholeNumber('instances', count))
const people: WatchedTable = {
  table: 'people', issuer: { always: 'https://id.example.com' }, subject: 'sub', revision: 'rev', columns: ['email']
}

const closers: Array<() => Promise<unknown>> = []
try {
  console.log(`${machine()}\ninstances that poll every ${pollIntervalMs} ms, each over a connection of its own, for ` +
    `${windowMs / 1000} s each; nothing is changed\n`)
  const maxConnections = 2 * Math.max(...counts, partitionedInstances) + 50
  const server = await startPostgres({ parameters: { max_connections: String(maxConnections) } })
  closers.push(() => server.stop())
  const databaseUrl = await server.createDatabase('instances')
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  closers.push(() => client.end())
  await client.query(`CREATE TABLE people (sub text PRIMARY KEY, rev bigint NOT NULL DEFAULT 1, email text);
    CREATE TABLE parts (sub text PRIMARY KEY, rev bigint NOT NULL DEFAULT 1, email text) PARTITION BY HASH (sub);`)
  // In several transactions: each takes a lock per table.
  for (let part = 0; part < partitions; part++) {
    const values = `WITH (MODULUS ${partitions}, REMAINDER ${part})`
    await client.query(`CREATE TABLE parts_${part} PARTITION OF parts FOR VALUES ${values}`)
  }

  const costs: CrowdCost[] = []
  const crowd = new Crowd({ server, databaseUrl, watches: [people], pollIntervalMs, windowMs })
  try {
    for (const count of counts) costs.push(await crowd.measure(count))
  } finally {
    await crowd.close()
  }
  const parts = { ...people, table: 'parts' }
  const partitioned = new Crowd({ server, databaseUrl, watches: [parts], pollIntervalMs, windowMs })
  let partitionedCost: CrowdCost
  try {
    partitionedCost = await partitioned.measure(partitionedInstances)
  } finally {
    await partitioned.close()
  }

  const last = costs.at(-1)!
  const growth = last.cpuMsPerSecond / costs[0]!.cpuMsPerSecond
  const pollCpuMs = last.cpuMsPerSecond / last.pollsPerSecond
  const simulated = [200, 1000].flatMap(everyMs => [200, 500, 1000].map(instances => {
    const options = { instances, pollIntervalMs: everyMs, pollCpuMs, checkInCpuMs: pollCpuMs, cores: 2, seconds: 60 }
    return { instances, pollIntervalMs: everyMs, ...simulate(options) }
  }))
  console.log(table([
    ['instances', 'polls per second', 'CPU of the server, ms per second', 'per poll, ms'],
    ...[...costs, partitionedCost].map((cost, index) => {
      const { instances, pollsPerSecond, cpuMsPerSecond } = cost
      const name = index === costs.length
        ? `${instances}, of a table with ${partitions.toLocaleString('en')} partitions`
        : String(instances)
      return [name, ...[pollsPerSecond, cpuMsPerSecond, cpuMsPerSecond / pollsPerSecond].map(figure)]
    })
  ]))
  console.log(`\n${last.instances} instances take ${figure(growth)} times as much as ${costs[0]!.instances}\n\n` +
    'simulated, by the time per poll above, on two cores that do nothing else:\n')
  console.log(table([
    ['instances', 'poll every, ms', 'cores in use', 'p50, ms', 'p99, ms', 'answered too late'],
    ...simulated.map(({ instances, pollIntervalMs: everyMs, useRatio, p50Ms, p99Ms, lateRatio }) => {
      const used = `${Math.round(useRatio * 100)} %`
      return [String(instances), String(everyMs), used, figure(p50Ms), figure(p99Ms), `${figure(lateRatio * 100)} %`]
    })
  ]))
  if (values.json) {
    console.log(JSON.stringify({
      cpuMsPerSecond: Object.fromEntries(costs.map(({ instances, cpuMsPerSecond }) => [instances, cpuMsPerSecond])),
      growth,
      pollCpuMs,
      partitioned: partitionedCost,
      simulated
    }))
  }
} finally {
  for (const close of closers.reverse()) await close()
}
