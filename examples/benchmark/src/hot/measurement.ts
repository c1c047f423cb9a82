import { fileURLToPath } from 'node:url'
import { startApp, type AppProcess } from '../measure/app-process.js'
import { cpuMicros } from '../measure/cpu-time.js'
import { median } from '../measure/median.js'
import { pin } from '../measure/pin.js'
import { RawLoad } from '../measure/raw-load.js'
import type { World } from './contender.js'
import type { ContenderEntry } from './contenders.js'
import { drawing, type Crowd } from './crowd.js'
import { emailOf } from './reply.js'

/** How long and how often. */
export interface Effort {
  /** Fresh processes for each contender. */
  readonly processes: number
  /** Pairs of slices, bare and not, in each process. */
  readonly pairs: number
  readonly sliceMs: number
  readonly warmUpMs: number
  readonly connections: number
}

/** What one process showed: medians over its pairs. */
export interface Shown {
  /** CPU time of a bare request over that of an authenticated one. */
  readonly cpuShare: number
  /** CPU time that authentication adds to a request, in microseconds. */
  readonly addedMicros: number
  /** CPU time of a bare request, in microseconds. */
  readonly bareMicros: number
}

const appCore = 0
type Path = '/bare' | '/me'

/** Ties this process, and with it the database that it will start, to the core that the apps do not use. */
export function leaveAppsACore (): boolean {
  return pin(process.pid, appCore + 1)
}

/** Starts a contender anew, lets every user in once, warms both routes up, and measures them in turn with the same requests but for the path. */
export async function measure ({ name, resolves }: ContenderEntry, crowd: Crowd, tokens: readonly string[], world: World, effort: Effort, seed: number): Promise<Shown> {
  const app = await startApp(fileURLToPath(new URL('server.js', import.meta.url)), { CONTENDER: name, WORLD: JSON.stringify(world) }, '/bare')
  pin(app.pid, appCore)
  const load = await RawLoad.open(app.port, effort.connections)
  try {
    const draw = drawing(crowd, seed)
    const requests = requestsWith(tokens.slice(0, crowd.users))
    const next = (path: Path) => () => requests[path][draw()]!
    await letIn(load, requests['/me'], resolves)
    for (const path of ['/bare', '/me', '/bare', '/me'] as const) await load.run(next(path), { durationMs: effort.warmUpMs / 4 })

    const pairs: Array<Record<Path, number>> = []
    for (let pair = 0; pair < effort.pairs; pair++) {
      const micros = { '/bare': 0, '/me': 0 }
      const order = ['/bare', '/me'] as const
      for (const path of pair % 2 === 0 ? order : order.toReversed()) micros[path] = await slice(app, load, next(path), effort.sliceMs)
      pairs.push(micros)
    }
    return {
      cpuShare: median(pairs.map(pair => pair['/bare'] / pair['/me'])),
      addedMicros: median(pairs.map(pair => pair['/me'] - pair['/bare'])),
      bareMicros: median(pairs.map(pair => pair['/bare']))
    }
  } finally {
    load.close()
    await app.stop()
  }
}

/** CPU time of the app per request, in microseconds. */
async function slice (app: AppProcess, load: RawLoad, next: () => Buffer, durationMs: number): Promise<number> {
  const before = await cpuMicros(app)
  const requests = await load.run(next, { durationMs })
  return (await cpuMicros(app) - before) / requests
}

/** @throws when a contender that resolves users answers with another than the token's */
async function letIn (load: RawLoad, requests: readonly Buffer[], resolves: boolean): Promise<void> {
  let user = 0
  await load.run(() => requests[user++]!, { requests: requests.length }, (request, body) => {
    const { id, email } = JSON.parse(body) as { id: string, email: string | null }
    if (id === '' || (resolves && email !== emailOf(request))) throw new Error(`User ${request} was taken for another: ${body}`)
  })
}

function requestsWith (tokens: readonly string[]): Readonly<Record<Path, readonly Buffer[]>> {
  const to = (path: Path): Buffer[] => tokens.map(token => Buffer.from(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: benchmark\r\naccept: application/json\r\nauthorization: Bearer ${token}\r\n\r\n`, 'latin1'))
  return { '/bare': to('/bare'), '/me': to('/me') }
}
