import { parseArgs } from 'node:util'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { startPostgres } from '@orientor/test-kit'
import { drive, type Load } from './measure/drive.js'
import { machine } from './measure/machine.js'
import { seeded } from './measure/random.js'
import { zipf } from './measure/zipf.js'
import { measurePart } from './source/part.js'
import { report } from './source/report.js'
import { startBaseline, startStack } from './source/stack.js'

// 1,000 authentications, 10 at once, of 130 users, then a sustained load.
const authentications = 1000
const concurrency = 10
const userCount = 130
const exponent = 1

const { values: { json, seconds } } = parseArgs({ options: { json: { type: 'boolean', default: false }, seconds: { type: 'string', default: '30' } } })
const sustainedMs = Number(seconds) * 1000
if (!(sustainedMs > 0)) throw new Error(`--seconds must be a number above 0; received ${JSON.stringify(seconds)}`)

const closers: Array<() => Promise<unknown>> = []
try {
  console.log(`${machine()}\n${userCount} users (Zipf ${exponent.toFixed(1)}), ${concurrency} at once: the first ${authentications.toLocaleString('en')} authentications (rows exist, memory is empty), then ${seconds} s\n`)
  const server = await startPostgres({ parameters: { shared_preload_libraries: 'pg_stat_statements' } })
  closers.push(() => server.stop())
  // Of a production instance: smart-sync sends a development key less.
  const clerk = await clerkSimulator({ secretKey: 'sk_live_benchmark' })
  closers.push(() => clerk.close())
  await clerk.listen({ host: '127.0.0.1', port: 0 })
  const databases = { stack: await server.createDatabase('stack'), baseline: await server.createDatabase('baseline') }
  const headers = await Promise.all(Array.from({ length: userCount }, async (_, index) => {
    const { id } = await clerk.simulator.createUser({ firstName: `User ${index}`, email: `user-${index}@example.com` })
    return { authorization: `Bearer ${await clerk.simulator.mintToken({ userId: id, lifetimeSeconds: 3600 })}` }
  }))

  const contenders = [() => startStack(databases.stack, clerk), () => startBaseline(databases.baseline, clerk)] as const
  // Everybody signs in once, so that the rows exist; then the apps start anew, with nothing in memory.
  for (const start of contenders) {
    const contender = await start()
    let next = 0
    await drive({ url: contender.url, concurrency, requests: userCount, headers: () => headers[next++ % userCount]! }).finally(() => contender.stop())
  }
  const stack = await contenders[0]()
  closers.push(() => stack.stop())
  const baseline = await contenders[1]()
  closers.push(() => baseline.stop())

  const load = (seed: number, limit: Pick<Load, 'requests' | 'durationMs'>) => (url: string): Load => {
    const rank = zipf(userCount, exponent, seeded(seed))
    return { url, concurrency, headers: () => headers[rank()]!, ...limit }
  }
  const cold = await measurePart(stack, baseline, load(1, { requests: authentications }))
  const sustained = await measurePart(stack, baseline, load(2, { durationMs: sustainedMs }))
  console.log(report({ cold, sustained }))
  if (json) console.log(JSON.stringify({ cold: cold.part, sustained: sustained.part }))
} finally {
  for (const close of closers.reverse()) await close()
}
