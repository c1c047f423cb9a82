import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { startPostgres } from '@orientor/test-kit'
import { newcomers } from './cold/newcomers.js'
import { oneUser } from './cold/one-user.js'
import { report, resultOf, type ColdRuns } from './cold/report.js'
import { rush, type Rush } from './cold/rush.js'
import { machine } from './measure/machine.js'
import { wholeNumber } from './measure/whole-number.js'
import { startBaseline, startStack } from './source/stack.js'

// Users who were never seen, all at once: on an instance that has just started, and one of them on several instances.
const loneUsers = 10

const { values: { json, ...given } } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    users: { type: 'string', default: '10000' },
    requests: { type: 'string', default: '1000' },
    runs: { type: 'string', default: '3' }
  }
})
const users = wholeNumber('users', given.users)
const requests = wholeNumber('requests', given.requests)
const runs = wholeNumber('runs', given.runs)

const closers: Array<() => Promise<unknown>> = []
try {
  console.log(`${machine()}\n${users.toLocaleString('en')} new users at once, each over a connection of its own; of ` +
    `${runs} runs, each on a new database, the worst counts and the median times\n`)
  const server = await startPostgres({ parameters: { shared_preload_libraries: 'pg_stat_statements' } })
  closers.push(() => server.stop())
  // A production instance, by its key and its limit: 1,000 requests in 10 seconds.
  const clerk = await clerkSimulator({ secretKey: `sk_live_${randomBytes(20).toString('hex')}` })
  closers.push(() => clerk.close())
  await clerk.listen({ host: '127.0.0.1', port: 0 })
  const [first, ...others] = await newcomers(clerk, 1 + users + loneUsers)
  const tokens = others.slice(0, users)

  const cold: Rush[] = []
  const keyed: Rush[] = []
  for (let run = 0; run < runs; run++) {
    cold.push(await rush({ server, clerk, start: startStack, tokens, first: null }))
    keyed.push(await rush({ server, clerk, start: startStack, tokens, first: first! }))
  }
  const usual = await rush({ server, clerk, start: startBaseline, tokens, first: null })
  const one = await oneUser({ server, clerk, tokens: others.slice(users), requests })
  const measured: ColdRuns = { users, cold, keyed, usual, one }
  console.log(report(measured))
  if (json) console.log(JSON.stringify(resultOf(measured)))
} finally {
  for (const close of closers.reverse()) await close()
}
