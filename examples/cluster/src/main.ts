#!/usr/bin/env node
import { startPostgres } from '@orientor/test-kit'
import { Changes, Readers, startCluster, strictProfile, warmUp, Writer } from './harness/index.js'
import { Ending } from './show/ending.js'
import { listenToKeys } from './show/keys.js'
import { tableOf, verdictOf } from './show/lines.js'
import { readOptions, usage, type ShowOptions } from './show/options.js'
import { pageOf } from './show/page.js'
import { Screen } from './show/screen.js'
import { Watcher } from './show/watcher.js'

const names = ['one', 'two', 'three'] as const
const readsPerSecond = 50
const drawEveryMs = 200
const printEveryMs = 1000

const ending = new Ending(process)
const closers: Array<() => unknown> = []
try {
  await show(optionsOrExit())
} catch (error) {
  process.stderr.write(`The cluster could not be shown: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
} finally {
  for (const close of closers.reverse()) await close()
}
process.exit()

function optionsOrExit (): ShowOptions {
  try {
    return readOptions(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}\n`)
    process.exit(1)
  }
}

async function show ({ seconds }: ShowOptions): Promise<void> {
  const screen = new Screen(process.stdout)
  screen.line('Starting PostgreSQL and three instances …')
  const server = await startPostgres()
  closers.push(() => server.stop())
  if (ending.isOver) return
  const databaseUrl = await server.createDatabase('cluster')
  const { members, people: { list: [person] }, stop } = await startCluster({ databaseUrl, names, userCount: 1 })
  closers.push(stop)
  if (person === undefined) return
  const doors = members.map(({ process }) => process)
  // What is not there by then is to be seen.
  await Promise.race([warmUp(doors, [person], { trusted: true }).catch(() => {}), ending.over])
  if (ending.isOver) return

  const { maxStalenessMs } = strictProfile
  const watcher = new Watcher(names, strictProfile)
  const writer = new Writer(databaseUrl, watcher)
  await writer.start([person.subject])
  const readers = new Readers(doors, [person], readsPerSecond, observed => { watcher.hear(observed) })
  const changes = new Changes(writer, { busy: [person], seldom: [], busyEveryMs: 1000, seldomEveryMs: 1000 })
  closers.push(() => Promise.all([readers.stop(), changes.stop()]))

  closers.push(listenToKeys(process.stdin, members.length, {
    toggle (index) {
      const { process: { name }, pool, bus } = members[index]!
      const isCut = pool.mode === 'pass'
      pool.mode = bus.mode = isCut ? 'stall' : 'pass'
      watcher.cut(name, isCut)
      if (!screen.canDraw) screen.line(`${name} is ${isCut ? 'cut off from the database' : 'healed'}`)
    },
    quit: () => { ending.end() }
  }))
  const timer = screen.canDraw
    ? setInterval(() => { screen.draw(pageOf({ rows: watcher.rows(performance.now()), report: watcher.report(), newest: watcher.newest, maxStalenessMs })) }, drawEveryMs)
    : setInterval(() => { screen.line(`${tableOf(watcher.rows(performance.now()))}\n`) }, printEveryMs)
  closers.push(() => { clearInterval(timer) })
  if (seconds !== null) ending.after(seconds)
  await ending.over
  screen.line(verdictOf(watcher.report(), maxStalenessMs))
}
