import { parseArgs } from 'node:util'
import { outboxSql, postgresBus } from '@orientor/session-cache/postgres'
import { systemClock, type WatchedTable } from '@orientor/session-contract/core'
import { defaultTableNames, migrate, PostgresUserStore, type TableNames } from '@orientor/smart-sync/core'
import { startPostgres } from '@orientor/test-kit'
import pg from 'pg'
import { machine } from './measure/machine.js'
import { wholeNumber } from './measure/whole-number.js'
import { Load, pgbenchVersion, type LoadOptions } from './writers/load.js'
import { notifyChannel, notifyTriggerSql } from './writers/notify-trigger.js'
import {
  contenders, isJudged, report, resultOf, type Contender, type Round, type WritersPart
} from './writers/report.js'

// The price that writers pay for having their changes noted: commits per second of single-row updates.
const issuer = 'https://id.example.com'
const rows = 10_000
const instances = 3
/** The pause after a slice, in milliseconds: work that the disk and the listeners still have is not the next one's. */
const pauseMs = 25

const { values: { json, rounds, milliseconds, node } } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    milliseconds: { type: 'string', default: '500' },
    node: { type: 'boolean', default: false }
  }
})
const roundCount = wholeNumber('rounds', rounds)
const sliceMs = wholeNumber('milliseconds', milliseconds)
/** Slices before anything counts: sessions prepare their statements, and PostgreSQL settles for generic plans. */
const warmUps = 3
/** The part that is judged is measured so many times as often. */
const judgedFactor = 10

const watched = "first_name = 'Ada ' || revision, revision = revision + 1"
const unwatched = 'seen = seen + 1'
/** The table by its schema, what is set, and the column that counts how often. */
const loads: Readonly<Record<Contender, Readonly<Record<'schema' | 'set' | 'counter', string>>>> = {
  plain: { schema: 'plain', set: watched, counter: 'revision' },
  outbox: { schema: 'outbox', set: watched, counter: 'revision' },
  notify: { schema: 'notify', set: watched, counter: 'revision' },
  plainUnwatched: { schema: 'plain', set: unwatched, counter: 'seen' },
  outboxUnwatched: { schema: 'outbox', set: unwatched, counter: 'seen' }
}

const closers: Array<() => Promise<unknown>> = []
try {
  const pgbench = node ? null : pgbenchVersion()
  console.log(`${machine()}\nwriters: ${pgbench ?? 'a process of Node.js'}; slices of ${sliceMs} ms in turn, ` +
    `medians (quartiles) of ${roundCount} rounds and of ${roundCount * judgedFactor} of 16 writers that wait for the ` +
    'disk\n')
  const server = await startPostgres({ parameters: { max_connections: '220' } })
  closers.push(() => server.stop())
  const url = await server.createDatabase('writers')
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  closers.push(() => pool.end())
  const { outbox, notify } = await makeTables(pool)
  await pool.query(outboxSql([outbox]))
  await pool.query(notifyTriggerSql(notify))
  for (let instance = 0; instance < instances; instance++) {
    const bus = postgresBus({ installTriggers: false })
    closers.push(() => bus.close())
    await bus.start({
      watches: [outbox],
      pool,
      report: ({ level, message }) => { if (level === 'warn') console.log(message) }
    })
    const listener = new pg.Client({ connectionString: url })
    closers.push(() => listener.end())
    await listener.connect()
    await listener.query(`LISTEN ${notifyChannel}`)
  }

  const parts: WritersPart[] = []
  for (const synchronousCommit of ['on', 'off'] as const) {
    for (const writers of [1, 4, 16, 32]) {
      const count = isJudged({ synchronousCommit, writers }) ? roundCount * judgedFactor : roundCount
      const how = { synchronousCommit, writers, pgbench: pgbench !== null }
      parts.push({ synchronousCommit, writers, rounds: await measure(pool, url, how, count) })
    }
  }
  console.log(report(parts))
  if (json) console.log(JSON.stringify({ generator: pgbench ?? 'node', ...resultOf(parts) }))
} finally {
  for (const close of closers.reverse()) await close()
}

/**
 * Makes three tables like smart-sync's, without the trigger that counts the revision; resolves with what is watched of
 * two.
 */
async function makeTables (
  pool: pg.Pool
): Promise<{ outbox: WatchedTable, notify: Parameters<typeof notifyTriggerSql>[0] }> {
  const namesIn = (schema: string): TableNames =>
    Object.fromEntries(
      Object.entries(defaultTableNames).map(([name, table]) => [name, `${schema}.${table}`])
    ) as unknown as TableNames
  for (const schema of ['plain', 'outbox', 'notify']) {
    await pool.query(`CREATE SCHEMA ${schema}`)
    await migrate({ pool, tables: namesIn(schema) })
    await pool.query(`DROP TRIGGER zz_users_revision ON ${schema}.users;
      ALTER TABLE ${schema}.users ADD COLUMN seen bigint NOT NULL DEFAULT 0, SET (fillfactor = 50);
      INSERT INTO ${schema}.users (issuer, clerk_user_id, email, first_name, profile_data)
      SELECT '${issuer}', 'user_' || i, i || '@example.com', 'Ada', '{"plan": "pro"}'
      FROM generate_series(1, ${rows}) AS i;`)
    await pool.query(`VACUUM ANALYZE ${schema}.users`)
  }
  const watchOf = (schema: string): WatchedTable => {
    const options = { pool: () => pool, tables: namesIn(schema), clock: systemClock, random: Math.random }
    return new PostgresUserStore(options).watches[0]!
  }
  const notify = watchOf('notify')
  const { issuer: issuerColumn, revision } = notify
  if (typeof issuerColumn !== 'string' || revision === null) {
    throw new Error('smart-sync has no column for issuer or revision')
  }
  return { outbox: watchOf('outbox'), notify: { ...notify, issuer: issuerColumn, revision } }
}

/** Measures the commits per second of each contender, in slices side by side; the one that begins rotates. */
async function measure (
  pool: pg.Pool, url: string, how: Pick<LoadOptions, 'synchronousCommit' | 'writers' | 'pgbench'>, count: number
): Promise<readonly Round[]> {
  const started = new Map<Contender, Load>()
  const pause = (): Promise<unknown> => new Promise(resolve => { setTimeout(resolve, pauseMs) })
  try {
    const written = async (name: Contender): Promise<number> => {
      const { schema, counter } = loads[name]
      const text = `SELECT sum(${counter}) AS sum FROM ${schema}.users`
      return Number((await pool.query<{ sum: string }>(text)).rows[0]!.sum)
    }
    for (const name of contenders) {
      const { schema, set } = loads[name]
      const load = new Load({ url, updates: { table: `${schema}.users`, set, issuer, rows }, ...how })
      started.set(name, load)
      const before = await written(name)
      // How long the process takes to begin depends on the machine.
      while (await written(name) === before) await load.run(sliceMs)
      await load.run(warmUps * sliceMs)
    }
    const measured: Round[] = []
    for (let round = 0; round < count; round++) {
      const turns = contenders.map((_, place) => contenders[(place + round) % contenders.length]!)
      const rates = new Map<Contender, number>()
      for (const name of round % 2 === 0 ? turns : turns.toReversed()) {
        await pause()
        const before = await written(name)
        const seconds = await started.get(name)!.run(sliceMs)
        await pause()
        rates.set(name, (await written(name) - before) / seconds)
      }
      measured.push(Object.fromEntries(rates) as unknown as Round)
    }
    return measured
  } finally {
    for (const load of started.values()) await load.stop()
  }
}
