import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { postgresFaults, startTcpProxy, testDatabase, type Fault, type PostgresFaults, type TcpProxy } from '@orientor/test-kit'
import { freshAgain, knownUsers, load, quantile, startService } from '../test/fixtures/outage.js'

const outageMs = Number(process.env['ORIENTOR_OUTAGE_MS'] ?? 60_000)
let unhandled = 0
process.on('unhandledRejection', () => { unhandled++ })

type Strike = (faults: PostgresFaults, proxy: TcpProxy) => Promise<Fault>

const strikes: Record<string, Strike> = {
  'killed with SIGKILL': faults => faults.killCluster(),
  refused: async (_faults, proxy) => {
    proxy.mode = 'refuse'
    proxy.reset()
    return { heal: async () => { proxy.mode = 'pass' } }
  },
  frozen: async faults => faults.freeze('cluster')
}

for (const [name, strike] of Object.entries(strikes)) {
  t.test(`with the database ${name} for ${outageMs / 1000} s cached users are served and strangers told at once`, { timeout: outageMs + 60_000 }, t => survive(t, name, strike))
}

async function survive (t: Test, injected: string, strike: Strike): Promise<void> {
  const database = await testDatabase(t)
  const faults = postgresFaults(t, database)
  const proxy = await startTcpProxy(Number(new URL(database.url).port))
  t.teardown(() => proxy.stop())
  const through = new URL(database.url)
  through.port = String(proxy.port)
  const service = await startService(through.href, { expireAfterMs: 2000 })
  t.teardown(() => service.app.close())
  await service.source.fill(knownUsers)

  const requests = load(service)
  await pause(3000)
  const struckAtMs = service.nowMs()
  const fault = await strike(faults, proxy)
  await pause(outageMs)
  const answers = (await requests.stop()).filter(({ atMs }) => atMs >= struckAtMs)
  await fault.heal()
  await faults.ready()
  const freshMs = await freshAgain(service)

  const known = answers.filter(answer => answer.known)
  const settled = known.filter(({ atMs }) => atMs >= struckAtMs + 2000)
  const strangers = answers.filter(answer => !answer.known && answer.circuitOpen)
  const p99Ms = quantile(settled.map(({ ms }) => ms), 0.99)
  const strangersP99Ms = quantile(strangers.map(({ ms }) => ms), 0.99)
  const failed = known.filter(({ status }) => status !== 200).length
  const stale = known.filter(({ stale }) => stale).length
  t.comment(JSON.stringify({
    injected: `${injected} for ${outageMs / 1000} s, expireAfterMs 2000, under 100 requests a second`,
    seen: `${known.length} requests of cached users (${stale} marked), ${strangers.length} of strangers while the circuit was open`,
    reached: `${failed} failed; after 2 s p99 ${round(p99Ms)} ms, worst ${round(Math.max(...settled.map(({ ms }) => ms)))} ms; strangers 503, p99 ${round(strangersP99Ms)} ms; fresh ${round(freshMs)} ms after the server took connections`
  }))
  t.equal(failed, 0, 'no cached user failed')
  t.ok(stale > known.length / 2, 'most of them were marked')
  t.ok(p99Ms <= 50, 'p99 after the first 2 s is at most 50 ms')
  t.ok(strangers.length > 0 && strangers.every(({ status }) => status === 503))
  t.ok(strangersP99Ms <= 50, 'strangers are told within 50 ms once the gate is open')
  t.equal(unhandled, 0)
}

function round (ms: number): number {
  return Math.round(ms * 10) / 10
}
