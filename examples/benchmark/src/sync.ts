import { parseArgs } from 'node:util'
import { startPostgres } from '@orientor/test-kit'
import pg from 'pg'
import { machine } from './measure/machine.js'
import { wholeNumber } from './measure/whole-number.js'
import { ChangedUsers } from './sync/changed-users.js'
import { report, resultOf, ways, type SyncPart, type SyncRound, type Way } from './sync/report.js'
import { makeTables, openScene, type SyncScene } from './sync/scene.js'
import { upsertSingly } from './sync/single-upserts.js'
import { measureUnchanged } from './sync/unchanged.js'

// The cost of storing what the provider says of users: in guarded batches, one at a time by the same code, and in the way
// that is usually written by hand.
const userCount = 10_000
const batchSize = 200
const concurrency = 10
/** Rows of a slice; those that are written one at a time take longest. */
const sliceRows: Readonly<Record<Way, number>> = {
  batches: 4000, batches10: 4000, singles10: 1500, singles: 400, upserts10: 2000, upserts: 500
}

const { values: { json, ...given } } = parseArgs({
  options: { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '15' } }
})
const roundCount = wholeNumber('rounds', given.rounds)

const closers: Array<() => Promise<unknown>> = []
try {
  console.log(`${machine()}\nchanged users of a table of ${userCount.toLocaleString('en')}: apply() of ${batchSize} ` +
    'at a time, of one, and upserts of one row by hand; rows per second, in slices in turn, medians (quartiles) of ' +
    `${roundCount} rounds\n`)
  const server = await startPostgres({ parameters: { shared_preload_libraries: 'pg_stat_statements' } })
  closers.push(() => server.stop())
  const databaseUrl = await server.createDatabase('sync')
  await makeTables(databaseUrl)
  const users = new ChangedUsers(userCount, Date.now() - 86_400_000)
  const cleaner = new pg.Pool({ connectionString: databaseUrl, max: 1 })
  closers.push(() => cleaner.end())
  /** Cleans the table, so that no way pays for the rows that another left behind. */
  const clean = async (): Promise<unknown> => await cleaner.query('VACUUM users')

  const parts: SyncPart[] = []
  let scene: SyncScene | null = null
  for (const synchronousCommit of ['off', 'on'] as const) {
    const opened = await openScene(databaseUrl, synchronousCommit, concurrency)
    closers.push(() => opened.close())
    scene = opened
    parts.push({ synchronousCommit, rounds: await measure(opened, users, clean) })
  }
  const current = users.next(userCount)
  for (let start = 0; start < userCount; start += batchSize) await scene!.apply(current.slice(start, start + batchSize))
  const unchanged = await measureUnchanged(databaseUrl, scene!, current, batchSize)
  console.log(report(parts, unchanged))
  if (json) console.log(JSON.stringify(resultOf(parts, unchanged)))
} finally {
  for (const close of closers.reverse()) await close()
}

/** Measures the rows per second of each way, in slices side by side; the one that begins rotates. */
async function measure (
  scene: SyncScene, users: ChangedUsers, clean: () => Promise<unknown>
): Promise<readonly SyncRound[]> {
  // Makes the rows where there are none yet, and has every session prepare its statements.
  await applyAll(scene, users, userCount, batchSize, 1)
  for (const way of ways) await slice(scene, users, way)
  const rounds: SyncRound[] = []
  for (let round = 0; round < roundCount; round++) {
    const turns = ways.map((_, place) => ways[(place + round) % ways.length]!)
    const rates = new Map<Way, number>()
    for (const way of turns) {
      await clean()
      rates.set(way, await slice(scene, users, way))
    }
    rounds.push(Object.fromEntries(rates) as unknown as SyncRound)
  }
  return rounds
}

/** Writes the rows of a slice; answers with the rows per second. */
async function slice (scene: SyncScene, users: ChangedUsers, way: Way): Promise<number> {
  const rows = sliceRows[way]
  if (way === 'batches') return await applyAll(scene, users, rows, batchSize, 1)
  if (way === 'batches10') return await applyAll(scene, users, rows, batchSize, concurrency)
  if (way === 'singles') return await applyAll(scene, users, rows, 1, 1)
  if (way === 'singles10') return await applyAll(scene, users, rows, 1, concurrency)
  const changes = users.next(rows)
  const begunMs = performance.now()
  await upsertSingly(scene.clients.slice(0, way === 'upserts' ? 1 : concurrency), changes)
  return rows / (performance.now() - begunMs) * 1000
}

/** Applies changes in batches, so many at a time. @throws when one was not written */
async function applyAll (
  scene: SyncScene, users: ChangedUsers, rows: number, size: number, atOnce: number
): Promise<number> {
  const changes = users.next(rows)
  const begunMs = performance.now()
  let start = 0
  const worker = async (): Promise<void> => {
    while (start < rows) {
      const outcomes = await scene.apply(changes.slice(start, start += size))
      const other = outcomes.find(kind => kind !== 'updated' && kind !== 'created')
      if (other !== undefined) throw new Error(`a user who was to be changed is ${other}`)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return rows / (performance.now() - begunMs) * 1000
}
