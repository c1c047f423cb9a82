import { parseArgs } from 'node:util'
import { DatabaseSessionManager, resolveOptions, type InvalidationBus } from '@orientor/session-cache/core'
import { outboxSql, postgresBus } from '@orientor/session-cache/postgres'
import { createIdentity, defaultRouteSession, systemClock, type UserRecord, type UserSource, type WatchedTable } from '@orientor/session-contract/core'
import { defaultTableNames, migrate, PostgresUserStore, type TableNames } from '@orientor/smart-sync/core'
import { startPostgres } from '@orientor/test-kit'
import pg from 'pg'
import { machine } from './measure/machine.js'
import { median } from './measure/median.js'
import { wholeNumber } from './measure/whole-number.js'

// What coherence costs: a hit, and a row that is written.
const issuer = 'https://id.example.com'
const rowCount = 2000
const { values: { json, rounds } } = parseArgs({ options: { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '200' } } })
const roundCount = wholeNumber('rounds', rounds)
/** Rows of the bulk updates, and how often they are measured. */
const bulkRows = 5000
const bulkRounds = Math.max(10, Math.round(roundCount / 5))

/** Microseconds per update without and with the triggers, and how many fewer are done in the same time: the median over neighbouring slices. */
interface Updates { readonly plain: number, readonly with: number, readonly loss: number }

const closers: Array<() => Promise<unknown>> = []
try {
  console.log(`${machine()}\nmedians of ${roundCount} interleaved rounds\n`)
  const server = await startPostgres()
  closers.push(() => server.stop())
  const url = await server.createDatabase('coherence')
  const pool = new pg.Pool({ connectionString: url, max: 1 })
  closers.push(() => pool.end())

  const inSchema = (schema: string): TableNames => Object.fromEntries(Object.entries(defaultTableNames).map(([name, table]) => [name, `${schema}.${table}`])) as unknown as TableNames
  const names = { plain: inSchema('plain'), watched: inSchema('watched'), unlisted: inSchema('unlisted'), twin: inSchema('twin') }
  for (const [schema, tables] of Object.entries(names)) {
    await pool.query(`CREATE SCHEMA ${schema}`)
    await migrate({ pool, tables })
    await pool.query(`ALTER TABLE ${tables.users} SET (fillfactor = 50)`)
    await pool.query(`INSERT INTO ${tables.users} (issuer, clerk_user_id, email, first_name, profile_data) SELECT $1, 'user_' || i, i || '@example.com', 'Ada', '{"plan": "pro"}' FROM generate_series(1, ${rowCount}) AS i`, [issuer])
  }
  const watchesOf = (tables: TableNames): readonly WatchedTable[] => new PostgresUserStore({ pool: () => pool, tables, clock: systemClock, random: Math.random }).watches
  const watches = watchesOf(names.watched)
  await pool.query(outboxSql(watches))
  await pool.query(outboxSql(watchesOf(names.unlisted), { columnLists: false }))
  const bus = postgresBus({ pool })
  await bus.start({ watches, report: ({ message }) => { console.log(message) } })

  const hit = await compareHits(bus)
  // A bus that polls works in this process, and would count as work of the writer.
  await bus.close()
  const compareAll = async (): Promise<Record<'noise' | 'unwatched' | 'unlisted' | 'watched', Updates>> => ({
    // A second table without triggers: what this machine takes for a difference.
    noise: await compareUpdates(pool, 'twin', 'last_clerk_sync = clock_timestamp()'),
    unwatched: await compareUpdates(pool, 'watched', 'last_clerk_sync = clock_timestamp()'),
    unlisted: await compareUpdates(pool, 'unlisted', 'last_clerk_sync = clock_timestamp()'),
    watched: await compareUpdates(pool, 'watched', 'first_name = $2 || clock_timestamp()')
  })
  const unrelated = await prepareUnrelated(pool, inSchema)
  const updates = await compareAll()
  // Without waiting for the disk the share of the triggers is as large as it can be.
  await pool.query('SET synchronous_commit = off')
  const unsynced = await compareAll()
  // Likewise, and the disk would hide what bulk updates cost.
  const unrelatedUpdateRatio = {
    bulk: await unrelated.bulk('uncounted', 'counted'),
    bulkFloor: await unrelated.bulk('uncounted', 'empty'),
    bulkFloorAfter: await unrelated.bulk('uncounted', 'emptyAfter'),
    bulkBesideAnother: await unrelated.bulk('touched', 'touchedAndCounted'),
    bulkBesideUndeclared: await unrelated.bulk('touched', 'touchedAndCalled'),
    single: await unrelated.single('uncounted', 'counted'),
    singleBesideAnother: await unrelated.single('touched', 'touchedAndCounted'),
    singleBesideUndeclared: await unrelated.single('touched', 'touchedAndCalled')
  }
  const result = {
    hitNanos: hit,
    hitOverheadNanos: hit.withBus - hit.without,
    noise: updates.noise.loss,
    unwatchedLoss: updates.unwatched.loss,
    unlistedLoss: updates.unlisted.loss,
    watchedLoss: updates.watched.loss,
    unsyncedNoise: unsynced.noise.loss,
    unsyncedUnwatchedLoss: unsynced.unwatched.loss,
    unsyncedUnlistedLoss: unsynced.unlisted.loss,
    unsyncedWatchedLoss: unsynced.watched.loss,
    unrelatedUpdateRatio,
    updateMicros: updates,
    unsyncedMicros: unsynced
  }
  console.table({
    'a hit (ns)': { without: hit.without.toFixed(1), with: hit.withBus.toFixed(1), difference: `${result.hitOverheadNanos.toFixed(1)} ns` },
    'update, no triggers on either side (µs)': row(updates.noise),
    'update of a column that nobody watches (µs)': row(updates.unwatched),
    'the same with columnLists: false (µs)': row(updates.unlisted),
    'update of a watched column (µs)': row(updates.watched),
    'not waiting for the disk: no triggers (µs)': row(unsynced.noise),
    'not waiting: nobody watches (µs)': row(unsynced.unwatched),
    'not waiting: with columnLists: false (µs)': row(unsynced.unlisted),
    'not waiting: watched (µs)': row(unsynced.watched),
    'with the revision counted: one row of the app\'s own': ratioRow(unrelatedUpdateRatio.single),
    'the same beside a trigger of the app\'s': ratioRow(unrelatedUpdateRatio.singleBesideAnother),
    'the same, which is not said to be harmless': ratioRow(unrelatedUpdateRatio.singleBesideUndeclared),
    'with the revision counted: all rows': ratioRow(unrelatedUpdateRatio.bulk),
    'with a trigger that is never called: all rows': ratioRow(unrelatedUpdateRatio.bulkFloor),
    'with one AFTER updates that is never called: all rows': ratioRow(unrelatedUpdateRatio.bulkFloorAfter),
    'the same beside a trigger of the app\'s: all rows': ratioRow(unrelatedUpdateRatio.bulkBesideAnother),
    'the same, which is not said to be harmless: all rows': ratioRow(unrelatedUpdateRatio.bulkBesideUndeclared)
  })
  if (json) console.log(JSON.stringify(result))
} finally {
  for (const close of closers.reverse()) await close()
}

/** Hits of one user, with a bus that is trusted and without one. */
async function compareHits (bus: InvalidationBus): Promise<{ without: number, withBus: number }> {
  const user = { userId: '1', issuer, subject: 'ada', email: null, firstName: null, lastName: null, isActive: true, onboardingCompleted: true, providerUpdatedAt: null, profile: null } as const
  const record: UserRecord = { kind: 'active', user, revision: 1, sync: 'skipped', lastSyncedAtMs: null, tokensValidFromMs: 0, revokedSessions: [] }
  const source: UserSource = { load: batch => batch.map(async () => record) }
  const hits = 200_000
  const contenders = { without: new DatabaseSessionManager(resolveOptions({ source })), withBus: new DatabaseSessionManager(resolveOptions({ source, bus })) }
  const nanos: Record<keyof typeof contenders, number[]> = { without: [], withBus: [] }
  const identity = { without: createIdentity({ issuer, subject: 'ada' }), withBus: createIdentity({ issuer, subject: 'ada' }) }
  for (const name of ['without', 'withBus'] as const) await contenders[name].resolve(identity[name], defaultRouteSession)
  for (let round = -2; round < roundCount; round++) {
    // Polls go on.
    await new Promise(resolve => { setTimeout(resolve, 20) })
    for (const name of round % 2 === 0 ? ['without', 'withBus'] as const : ['withBus', 'without'] as const) {
      const manager = contenders[name]
      const who = identity[name]
      let answered = 0
      const before = process.hrtime.bigint()
      for (let hit = 0; hit < hits; hit++) {
        if ('kind' in manager.resolve(who, defaultRouteSession)) answered++
      }
      if (round >= 0) nanos[name].push(Number(process.hrtime.bigint() - before) / hits)
      if (answered !== hits) throw new Error('What was to be a hit was not')
    }
  }
  return { without: median(nanos.without), withBus: median(nanos.withBus) }
}

/** One row per transaction over one connection, of one table and of another, side by side; both raise their revision by a trigger. */
async function compareUpdates (pool: pg.Pool, other: 'twin' | 'watched' | 'unlisted', set: string): Promise<Updates> {
  const micros = { plain: [] as number[], with: [] as number[] }
  const perRound = 100
  for (let round = -2; round < roundCount; round++) {
    for (const schema of round % 2 === 0 ? ['plain', other] as const : [other, 'plain'] as const) {
      const before = performance.now()
      for (let index = 0; index < perRound; index++) {
        const values = [`user_${(Math.abs(round) * perRound + index) % rowCount + 1}`, 'Ada']
        await pool.query({ name: `${schema} ${set}`, text: `UPDATE ${schema}.users SET ${set} WHERE issuer = '${issuer}' AND clerk_user_id = $1 AND $2 <> ''`, values })
      }
      if (round >= 0) micros[schema === 'plain' ? 'plain' : 'with'].push((performance.now() - before) * 1000 / perRound)
    }
  }
  return { plain: median(micros.plain), with: median(micros.with), loss: 1 - median(micros.plain.map((plain, round) => plain / micros.with[round]!)) }
}

/**
 * The tables whose updates of the app's own column are compared: without a trigger, with the one that counts the revision, with one that has the same list of
 * columns and an empty function, BEFORE and AFTER updates, and with an app's own `updated_at` trigger, alone, and beside the one that counts:
 * said to be harmless, and not.
 */
type Side = 'uncounted' | 'counted' | 'empty' | 'emptyAfter' | 'touched' | 'touchedAndCounted' | 'touchedAndCalled'

interface Unrelated {
  /** One statement over all rows. */
  readonly bulk: (without: Side, side: Side) => Promise<number>
  /** One row per transaction. */
  readonly single: (without: Side, side: Side) => Promise<number>
}

/**
 * What the trigger that counts the revision costs updates of the app's own columns, over rows with a profile of 2 KB: the time of an update with it by
 * that of the same update of the same table without it, the median over neighbours. No bus is there.
 */
async function prepareUnrelated (pool: pg.Pool, inSchema: (schema: string) => TableNames): Promise<Unrelated> {
  const names: Record<Side, TableNames> = {
    uncounted: inSchema('uncounted'),
    counted: inSchema('counted'),
    empty: inSchema('empty'),
    emptyAfter: inSchema('empty_after'),
    touched: inSchema('touched'),
    touchedAndCounted: inSchema('touched_and_counted'),
    touchedAndCalled: inSchema('touched_and_called')
  }
  const counting = 'zz_users_revision'
  await pool.query(`CREATE FUNCTION public.unchanged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.touched_at := clock_timestamp(); RETURN NEW; END'`)
  for (const [side, tables] of Object.entries(names)) {
    await pool.query(`CREATE SCHEMA ${tables.users.split('.')[0]}`)
    await migrate({ pool, tables })
    // Half empty, so that rows stay on their pages; by hand, so that nothing cleans up while it is measured.
    await pool.query(`ALTER TABLE ${tables.users} ADD COLUMN last_seen_at timestamptz, ADD COLUMN touched_at timestamptz, SET (fillfactor = 45, autovacuum_enabled = off)`)
    await pool.query(`INSERT INTO ${tables.users} (issuer, clerk_user_id, email, first_name, profile_data)
      SELECT $1, 'user_' || i, i || '@example.com', 'Ada', jsonb_build_object('about', (SELECT string_agg(md5(i || ':' || n), '') FROM generate_series(1, 60) AS n))
      FROM generate_series(1, ${bulkRows}) AS i`, [issuer])
    const { rows } = await pool.query<{ list: string }>(`SELECT string_agg(quote_ident(attname), ', ') AS list FROM pg_trigger
      JOIN pg_attribute ON attrelid = tgrelid AND attnum = ANY (tgattr) WHERE tgrelid = $1::regclass AND tgname = $2`, [tables.users, counting])
    if (side !== 'counted' && !side.startsWith('touchedAnd')) await pool.query(`DROP TRIGGER ${counting} ON ${tables.users}`)
    if (side.startsWith('empty')) await pool.query(`CREATE TRIGGER zz_empty ${side === 'empty' ? 'BEFORE' : 'AFTER'} UPDATE OF ${rows[0]!.list} ON ${tables.users} FOR EACH ROW EXECUTE FUNCTION public.unchanged()`)
    if (side.startsWith('touched')) await pool.query(`CREATE TRIGGER aa_touch BEFORE UPDATE ON ${tables.users} FOR EACH ROW EXECUTE FUNCTION public.touch()`)
    if (side === 'touchedAndCalled') await migrate({ pool, tables })
  }

  const compare = async (pair: readonly [Side, Side], rounds: number, update: (users: string, round: number) => Promise<unknown>): Promise<number> => {
    const ratios: number[] = []
    for (let round = -2; round < rounds; round++) {
      const ms = new Map<Side, number>()
      for (const side of pair) await pool.query(`VACUUM ${names[side].users}`)
      for (const side of round % 2 === 0 ? pair : pair.toReversed()) {
        const before = performance.now()
        await update(names[side].users, Math.abs(round))
        ms.set(side, performance.now() - before)
      }
      if (round >= 0) ratios.push(ms.get(pair[1])! / ms.get(pair[0])!)
    }
    return median(ratios)
  }
  return {
    bulk: (...pair) => compare(pair, bulkRounds, users => pool.query(`UPDATE ${users} SET last_seen_at = clock_timestamp()`)),
    single: (...pair) => compare(pair, roundCount, async (users, round) => {
      for (let index = 0; index < 100; index++) {
        const subject = `user_${(round * 100 + index) % bulkRows + 1}`
        await pool.query({ name: `seen ${users}`, text: `UPDATE ${users} SET last_seen_at = clock_timestamp() WHERE issuer = '${issuer}' AND clerk_user_id = $1`, values: [subject] })
      }
    })
  }
}

function ratioRow (ratio: number): { without: string, with: string, difference: string } {
  return { without: '', with: '', difference: `${((ratio - 1) * 100).toFixed(1)} % longer` }
}

function row (times: Updates): { without: string, with: string, difference: string } {
  return { without: times.plain.toFixed(1), with: times.with.toFixed(1), difference: `${(times.loss * 100).toFixed(1)} % fewer` }
}
