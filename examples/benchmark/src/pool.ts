import { fork } from 'node:child_process'
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startPostgres } from '@orientor/test-kit'
import { machine } from './measure/machine.js'
import { wholeNumber } from './measure/whole-number.js'
import type { PoolPart, PoolTask } from './pool/part.js'
import { figures, report } from './pool/report.js'

// The tuned pool beside the stock one: short slices in turn, in several fresh processes, judged by the ratios of neighbours.

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    processes: { type: 'string', default: '7' },
    pairs: { type: 'string', default: '60' },
    statements: { type: 'string', default: '200' },
    failures: { type: 'string', default: '20' }
  }
})

const [processes, pairs, statements, failures] = (['processes', 'pairs', 'statements', 'failures'] as const).map(name => wholeNumber(name, values[name])) as [number, number, number, number]

const server = await startPostgres({ parameters: { fsync: 'off' } })
try {
  const connectionString = server.url()
  const client = new pg.Client({ connectionString })
  await client.connect()
  await client.query('CREATE TABLE taken (id int PRIMARY KEY); INSERT INTO taken VALUES (1)')
  await client.end()
  const task: PoolTask = { connectionString, pairs, statements, failures }
  const description = machine()
  const parts: PoolPart[] = []
  for (let index = 0; index < processes; index++) parts.push(await measure(task))
  const result = figures(parts)
  console.log(`${description}, ${parts.length} processes, ${task.pairs} pairs of slices each\n\n${report(result)}`)
  if (values.json) console.log(JSON.stringify(result))
} finally {
  await server.stop()
}

async function measure (task: PoolTask): Promise<PoolPart> {
  const child = fork(new URL('./pool/worker.js', import.meta.url), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const told = once(child, 'message')
  const gone = once(child, 'exit')
  child.send(task)
  const first = await Promise.race([told, gone])
  if (child.exitCode !== null && typeof first[0] !== 'object') throw new Error(`A measuring process ended with code ${child.exitCode}`)
  await gone
  return first[0] as PoolPart
}
