import { createPublicKey } from 'node:crypto'
import { parseArgs } from 'node:util'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { startPostgres } from '@orientor/test-kit'
import type { World } from './hot/contender.js'
import { peers, stack } from './hot/contenders.js'
import { signUp, type Crowd } from './hot/crowd.js'
import { leaveAppsACore, measure, type Effort, type Shown } from './hot/measurement.js'
import { figuresOf, report, resultOf } from './hot/report.js'
import { machine } from './measure/machine.js'
import { figure } from './measure/table.js'
import { wholeNumber } from './measure/whole-number.js'

const { values: { json, quick, processes } } = parseArgs({ options: { json: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false }, processes: { type: 'string', default: '5' } } })
// The peers get the first.
const crowds: readonly Crowd[] = quick ? [{ users: 20, zipf: 0 }, { users: 40, zipf: 1 }] : [{ users: 1000, zipf: 0 }, { users: 10_000, zipf: 1 }]
const effort: Effort = quick
  ? { processes: 1, pairs: 2, sliceMs: 50, warmUpMs: 200, connections: 10 }
  : { processes: wholeNumber('processes', processes), pairs: 5, sliceMs: 250, warmUpMs: 1600, connections: 10 }
const users = Math.max(...crowds.map(crowd => crowd.users))
const measured = [...crowds.map(crowd => ({ contender: stack, crowd })), ...peers.map(contender => ({ contender, crowd: crowds[0]! }))]

const closers: Array<() => Promise<unknown>> = []
try {
  const where = machine()
  const pinned = leaveAppsACore()
  const server = await startPostgres()
  closers.push(() => server.stop())
  const clerk = await clerkSimulator({ rateLimit: { maxRequests: 1_000_000 } })
  closers.push(() => clerk.close())
  await clerk.listen({ host: '127.0.0.1', port: 0 })
  const { simulator } = clerk
  const { tokens, tokenLength } = await signUp(simulator, users)
  const world: World = {
    databaseUrl: await server.createDatabase('hot'),
    issuer: simulator.issuer,
    jwksUrl: simulator.jwksUrl,
    publicKey: createPublicKey({ key: { ...simulator.jwks.keys[0]! }, format: 'jwk' }).export({ type: 'spki', format: 'pem' }) as string,
    clerkApiUrl: clerk.listeningOrigin,
    clerkSecretKey: simulator.secretKey,
    users
  }
  console.log(`${where}\n${effort.processes} fresh processes each, ${effort.pairs} pairs of ${effort.sliceMs} ms in each, ${effort.connections} connections, tokens of ${tokenLength} characters; the app ${pinned ? 'has a core of its own' : 'shares its cores with the load'}\n`)

  // Makes the rows, which all contenders then find.
  await measure(stack, { users, zipf: 0 }, tokens, world, { ...effort, pairs: 1, sliceMs: 1, warmUpMs: 4 }, 0)
  const shown = measured.map((): Shown[] => [])
  for (let round = 0; round < effort.processes; round++) {
    for (const [index, { contender, crowd }] of measured.entries()) {
      const one = await measure(contender, crowd, tokens, world, effort, round + 1)
      shown[index]!.push(one)
      console.error(`${round + 1} of ${effort.processes}: ${contender.name}, ${crowd.users} users: ${figure(one.cpuShare)} of bare, which took ${figure(one.bareMicros)} µs`)
    }
  }
  const figures = measured.map(({ contender, crowd }, index) => ({ contender, figures: figuresOf(crowd, shown[index]!) }))
  const result = resultOf(
    figures.filter(({ contender }) => contender === stack).map(({ figures }) => figures),
    Object.fromEntries(figures.filter(({ contender }) => contender !== stack).map(({ contender, figures }) => [contender.name, figures])))
  console.log(report(result))
  if (quick) console.log('\nA smoke run: too short for its figures to mean anything.')
  if (json) console.log(JSON.stringify(result))
} finally {
  for (const close of closers.reverse()) await close()
}
