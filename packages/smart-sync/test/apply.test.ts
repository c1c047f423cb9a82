import { EventEmitter } from 'node:events'
import {
  SourceUnavailable, sessionKey, startDeadline, type ClientLike, type Deadline, type PoolLike, type UserChange
} from '@orientor/session-contract/core'
import { ManualClock } from '@orientor/test-kit'
import fc from 'fast-check'
import pg from 'pg'
import t, { type Test } from 'tap'
import { acquireClient, forgetErrors } from '../src/acquire-client.js'
import { defaultClaimNames } from '../src/claims-profile.js'
import { errors } from '../src/errors.js'
import { migrate } from '../src/migrate.js'
import { observe, sessionEnded, userDeleted, type Observation, type ProfileObserved } from '../src/observation.js'
import { ProviderWatch } from '../src/provider-watch.js'
import { Semaphore } from '../src/semaphore.js'
import { SmartDatabaseSync, type SmartDatabaseSyncOptions } from '../src/smart-database-sync.js'
import type { SyncOutcome } from '../src/sync-outcome.js'
import { joinedByUser } from '../src/user-update.js'
import { MemoryStore, now, profile, row } from './fixtures/memory-store.js'
import { deadlineIn, issuer, pools, providerOf, request, storeOn, syncOn } from './fixtures/on-postgres.js'

const base = Date.UTC(2026, 0, 1)

/** The observation of a complete profile. */
function seen (subject: string, version: number | null, more: Partial<typeof profile> = {}): ProfileObserved {
  return observe(issuer, subject, { ...profile, email: null, ...more }, version, true)
}

const silent = { error: () => {}, warn: () => {}, info: () => {} }

interface Bundle {
  readonly clock: ManualClock
  readonly store: MemoryStore
  readonly sync: SmartDatabaseSync
  readonly changes: UserChange[]
  readonly deadline: Deadline
  apply (...observations: Observation[]): Promise<string[]>
}

function setup (options: Partial<SmartDatabaseSyncOptions> = {}): Bundle {
  const clock = new ManualClock({ now })
  const store = new MemoryStore()
  const sync = new SmartDatabaseSync({
    store, provider: null, claims: defaultClaimNames, forceSyncAfterMs: 3_600_000, parseProfile: null, clock, ...options
  })
  const changes: UserChange[] = []
  sync.onChange(change => { changes.push(change) })
  const deadline = startDeadline(clock, 2000)
  const apply = async (...observations: Observation[]): Promise<string[]> => {
    return kinds(await sync.apply(observations, { deadline, lane: 'webhook' }))
  }
  return { clock, store, sync, changes, deadline, apply }
}

function kinds (outcomes: readonly SyncOutcome[]): string[] {
  return outcomes.map(({ kind }) => kind)
}

t.test('observations of one user join to the same update in any order and number', async t => {
  const any: fc.Arbitrary<Observation> = fc.oneof(
    fc.record({ version: fc.integer({ min: 1, max: 3 }), name: fc.constantFrom('A', 'B'), blocked: fc.boolean() })
      .map(({ version, name, blocked }) => seen('a', version, { firstName: name, blocked })),
    fc.record({ id: fc.constantFrom('s1', 's2', '__proto__'), until: fc.integer({ min: 1, max: 9 }) })
      .map(({ id, until }) => sessionEnded(issuer, 'a', id, until)),
    fc.constant(userDeleted(issuer, 'a'))
  )
  const order = fc.array(any, { minLength: 1, maxLength: 8 }).chain(list => fc.tuple(
    fc.constant(list), fc.shuffledSubarray([...list, ...list], { minLength: list.length * 2 })
  ))
  const joined = (list: readonly Observation[]): string => {
    return JSON.stringify([...joinedByUser(list).values()].map(({ endedSessions, ...update }) => {
      return { ...update, endedSessions: Object.entries(endedSessions ?? {}).toSorted(([a], [b]) => a < b ? -1 : 1) }
    }))
  }
  fc.assert(fc.property(order, ([list, shuffled]) => joined(list) === joined(shuffled)), { numRuns: 2000 })
})

t.test('apply()', t => {
  t.test('answers each observation in its order, whatever becomes of the others', async t => {
    const { apply, store } = setup()
    store.rows.set(row('old').key, row('old', { version: base + 9000, providerUpdatedAtMs: base + 9000 }))
    store.rows.set(row('same').key, row('same', { version: base, providerUpdatedAtMs: base, fingerprint: seen('same', base).fingerprint }))
    store.rows.set(row('gone').key, row('gone', { deleted: true }))
    store.tombstones.add('stone')
    store.refuse = ({ subject }) => subject === 'bad' ? 'data' : null
    t.strictSame(await apply(
      seen('new', base), seen('bad', base), seen('old', base), seen('same', base), seen('gone', base + 5),
      seen('stone', base), seen('old', base + 9999), userDeleted(issuer, 'x'), sessionEnded(issuer, 'same', 'sess_1', now + 60_000)
    ), [
      'created', 'dead_lettered', 'outdated', 'updated', 'tombstoned', 'tombstoned', 'updated', 'tombstoned', 'updated'
    ])
    t.match(store.letters, [{ lane: 'webhook', issuer, subject: 'bad', sqlState: '23505', reason: /RowRefused|refused/ }])
    t.match(JSON.parse(Buffer.from(store.letters[0]!.received).toString()), { subject: 'bad', profile: { version: base } })
  })

  t.test('reads before it writes: what is in step costs one statement, and a note once per force interval', async t => {
    const { apply, store, clock, changes } = setup()
    t.strictSame(await apply(seen('a', base), seen('b', base)), ['created', 'created'])
    store.calls.length = 0
    changes.length = 0
    t.strictSame(await apply(seen('b', base), seen('a', base)), ['unchanged', 'unchanged'])
    t.strictSame(store.calls, ['find 2'])
    t.strictSame(changes, [])
    clock.advance(3_600_000)
    t.strictSame(kinds(await setupAgain(store, clock).apply([seen('a', base)], { deadline: startDeadline(clock, 2000) })), ['unchanged'])
    t.strictSame(store.calls.splice(0), ['find 2', 'find 1', 'touch a'])
  })

  t.test('a version that is new for the same content is written, and the outcome says that nothing else is', async t => {
    const { apply, store } = setup()
    await apply(seen('a', base))
    t.strictSame(await apply(seen('a', base + 1)), ['unchanged'])
    t.equal(store.rows.get(row('a').key)?.version, base + 1)
    t.strictSame(await apply(seen('a', base + 2, { firstName: 'Eve' })), ['updated'])
  })

  t.test('of several observations of one user the highest counts, and the others are outdated', async t => {
    const { apply, store } = setup()
    t.strictSame(await apply(seen('a', base), seen('a', base + 2), seen('a', base + 1)), ['outdated', 'created', 'outdated'])
    t.strictSame(store.calls.filter(call => call.startsWith('write')), ['write a'])
    t.equal(store.rows.get(row('a').key)?.version, base + 2)
  })

  t.test('a date more than a day ahead is a dead letter, and freezes no user', async t => {
    const { apply, store, sync } = setup()
    t.strictSame(await apply(seen('a', now + 86_400_001), seen('a', now + 1)), ['dead_lettered', 'created'])
    t.equal(store.rows.get(row('a').key)?.version, now + 1)
    t.match(store.letters, [{ subject: 'a', sqlState: null, reason: /more than 24 hours ahead/ }])
    t.equal(sync.stats.snapshot().errorsByReason.future_version, 1)
  })

  t.test('deletion is terminal, under both policies, for users with a row and without', async t => {
    for (const deletionPolicy of ['deactivate', 'delete'] as const) {
      const { apply, store, changes } = setup({ deletionPolicy })
      await apply(seen('a', base))
      changes.length = 0
      t.strictSame(await apply(userDeleted(issuer, 'a'), userDeleted(issuer, 'b')), ['tombstoned', 'tombstoned'])
      t.equal(changes.length, 2, 'both are announced')
      t.strictSame(await apply(seen('a', base + 5), seen('b', base + 5)), ['tombstoned', 'tombstoned'])
      t.equal(store.rows.get(row('a').key)?.deleted, deletionPolicy === 'deactivate' ? true : undefined)
      t.equal(store.rows.has(row('b').key), false)
      changes.length = 0
      await apply(userDeleted(issuer, 'a'))
      t.equal(changes.length, 1, 'a redelivery is announced again: the first may not have got so far')
    }
  })

  t.test('a deletion in one batch with other observations of the user wins', async t => {
    const { apply, store } = setup()
    t.strictSame(await apply(seen('a', base + 1), userDeleted(issuer, 'a'), sessionEnded(issuer, 'a', 's', now + 1)), ['tombstoned', 'tombstoned', 'tombstoned'])
    t.equal(store.rows.size, 0)
  })

  t.test('sessions that are over are stored, also of a user without a row, and not once their tokens have expired', async t => {
    const { apply, store } = setup()
    t.strictSame(await apply(sessionEnded(issuer, 'a', 'sess_1', now + 1), sessionEnded(issuer, 'b', 'sess_2', now)), ['created', 'unknown'])
    t.strictSame(store.rows.get(row('a').key)?.revokedSessions, ['sess_1'])
    t.strictSame(await apply(seen('a', base), sessionEnded(issuer, 'a', 'sess_3', now + 5)), ['updated', 'updated'])
    t.match(store.rows.get(row('a').key), { firstName: 'Ada', revokedSessions: ['sess_1', 'sess_3'] })
    t.strictSame(await apply(sessionEnded(issuer, 'a', 'sess_3', now + 5)), ['unchanged'])
  })

  t.test('rejects when the database is away, and does what is left when it is called again', async t => {
    const { apply, store, sync } = setup()
    store.writeFailure = new SourceUnavailable('gone')
    await t.rejects(apply(seen('a', base)), SourceUnavailable)
    await t.rejects(apply(userDeleted(issuer, 'c')), SourceUnavailable)
    store.writeFailure = null
    store.findFailure = new SourceUnavailable('gone')
    await t.rejects(apply(seen('a', base)), SourceUnavailable)
    store.findFailure = null
    t.equal(sync.stats.snapshot().errorsByReason.database, 3)
    t.strictSame(await apply(seen('a', base), userDeleted(issuer, 'c')), ['created', 'tombstoned'])
  })

  t.test('rejects when a dead letter cannot be kept: else what it says would be lost', async t => {
    const { apply, store, sync, deadline } = setup()
    store.refuse = () => 'data'
    store.keepFailure = new SourceUnavailable('gone')
    await t.rejects(apply(seen('a', base)), SourceUnavailable)
    await t.rejects(apply(seen('a', now + 2 * 86_400_000)), SourceUnavailable)
    const letter = { lane: 'webhook', issuer, subject: null, received: Buffer.from('{'), reason: 'no JSON' } as const
    await t.rejects(sync.deadLetter(letter, deadline), SourceUnavailable)
    store.keepFailure = null
    t.strictSame(await apply(seen('a', base)), ['dead_lettered'])
    await sync.deadLetter(letter, deadline)
    t.match(store.letters, [{ subject: 'a' }, { subject: null, sqlState: null, reason: 'no JSON' }])
    t.match(sync.stats.snapshot(), { deadLetters: 2, errorsByReason: { unreadable: 1 } })
  })

  t.test('the log is told of dead letters and of addresses that another row has, without any value', async t => {
    const lines: string[] = []
    const { apply, store } = setup({ log: { ...silent, warn: (details, message) => { lines.push(`${JSON.stringify(details)} ${message}`) } } })
    store.refuse = ({ subject, profile: seen }) => {
      if (subject === 'bad') return 'data'
      return seen?.profile.email === 'taken@example.com' ? 'duplicate' : null
    }
    t.strictSame(await apply(seen('a', base, { email: 'taken@example.com' }), seen('bad', base), seen('c', base)), ['created', 'dead_lettered', 'created'])
    t.match(lines, [
      /^\{"users":1\} smart-sync: users were stored without their e-mail address/,
      /^\{"letters":1,"lane":"webhook","reasons":\["The users table refused a user \(SQLSTATE 23505\).*"\]\} smart-sync: what cannot be stored was kept/
    ])
    t.notMatch(lines.join(), /taken@example|"bad"/)
  })

  t.test('a defect is thrown, not taken for stored', async t => {
    const { apply, store } = setup()
    store.writeFailure = new errors.StatementRefused('SQLSTATE 42703', { cause: null })
    await t.rejects(apply(seen('a', base)), { code: 'ORI_SYNC_STATEMENT_REFUSED' })
  })

  t.test('observations that break their rule cannot be made', async t => {
    t.throws(() => sessionEnded(issuer, 'a', '', now), { code: 'ORI_SYNC_INVALID_OBSERVATION' })
    t.throws(() => sessionEnded(issuer, 'a', 'x'.repeat(256), now), { code: 'ORI_SYNC_INVALID_OBSERVATION' })
    t.throws(() => sessionEnded(issuer, 'a', 'ö', now), { code: 'ORI_SYNC_INVALID_OBSERVATION' })
    t.throws(() => sessionEnded(issuer, 'a', 's', NaN), { code: 'ORI_SYNC_INVALID_OBSERVATION' })
    for (const version of [NaN, -1, 1.5, Infinity, 8_640_000_000_000_001]) {
      t.throws(() => seen('a', version), { code: 'ORI_SYNC_INVALID_OBSERVATION' }, String(version))
    }
    t.throws(() => userDeleted(issuer, ''), { code: 'ORI_CONTRACT_INVALID_SESSION_KEY' })
    t.throws(() => seen('a\0', 1), { code: 'ORI_CONTRACT_INVALID_SESSION_KEY' })
  })

  t.test('an observation that was not made as it must be is refused before anything is stored', async t => {
    const { apply, store } = setup()
    const forged: unknown[] = [
      { ...userDeleted(issuer, 'a'), key: sessionKey(issuer, 'b') },
      { ...seen('a', base), fingerprint: '11' },
      { ...sessionEnded(issuer, 'a', 's', now), sessionId: {} },
      { ...sessionEnded(issuer, 'a', 's', now), tokensExpireAtMs: '9' },
      { ...userDeleted(issuer, 'a'), kind: 'banned' }
    ]
    for (const one of forged) {
      await t.rejects(apply(seen('c', base), one as Observation), { code: 'ORI_SYNC_INVALID_OBSERVATION' })
    }
    await t.rejects(apply({ ...userDeleted(issuer, 'a'), subject: '' }), { code: 'ORI_CONTRACT_INVALID_SESSION_KEY' })
    t.strictSame(store.calls, [])
  })

  t.test('the counts add up', async t => {
    const { apply, sync, store } = setup()
    store.refuse = ({ subject }) => subject === 'bad' ? 'data' : null
    await apply(seen('a', base), seen('bad', base), seen('far', now + 2 * 86_400_000))
    await apply(seen('a', base), seen('b', base), userDeleted(issuer, 'b'), sessionEnded(issuer, 'c', 's', now - 1))
    await apply(seen('a', base - 1, { firstName: 'Eve' }), seen('b', base))
    const { attempts, performed, skipped, errors: failed, ...stats } = sync.stats.snapshot()
    t.equal(attempts, performed + skipped + failed)
    t.match({ performed, skipped, failed }, { performed: 2, skipped: 4, failed: 2 })
    t.match(stats, { profileCreates: 1, deadLetters: 2, skips: { confirmed: 1, outdated: 1, unknown: 1, deleted: 1 } })
  })
  t.end()
})

function setupAgain (store: MemoryStore, clock: ManualClock): SmartDatabaseSync {
  return new SmartDatabaseSync({
    store, provider: null, claims: defaultClaimNames, forceSyncAfterMs: 3_600_000, parseProfile: null, clock
  })
}

t.test('a semaphore runs so many at once, the others in their order, each until its deadline', async t => {
  const clock = new ManualClock()
  const semaphore = new Semaphore(2, 'The users table')
  const ends: Array<() => void> = []
  const begun: number[] = []
  const work = (n: number, withinMs: number): Promise<number> => semaphore.run(async () => {
    begun.push(n)
    await new Promise<void>(resolve => { ends.push(resolve) })
    if (n === 1) throw new Error('one')
    return n
  }, startDeadline(clock, withinMs))
  const works = [0, 1, 2, 3, 4].map(n => work(n, n === 2 ? 50 : 1000))
  const settled = Promise.allSettled(works)
  await clock.settle()
  t.strictSame(begun, [0, 1])
  clock.advance(50)
  ends[1]!()
  await clock.settle()
  t.strictSame(begun, [0, 1, 3])
  ends[0]!()
  await clock.settle()
  t.strictSame(begun, [0, 1, 3, 4])
  for (const end of ends) end()
  t.match((await settled).map(({ status }) => status), ['fulfilled', 'rejected', 'rejected', 'fulfilled', 'fulfilled'])
  await t.rejects(works[2]!, { code: 'ORI_SOURCE_UNAVAILABLE', message: 'The users table had no room in time' })
  const [last, more] = [work(5, 1000), work(6, 1000)]
  await clock.settle()
  t.strictSame(begun.slice(-2), [5, 6], 'and there is room again')
  for (const end of ends) end()
  t.strictSame(await Promise.all([last, more]), [5, 6])
})

t.test('a connection that dies as it is lent does not end the process, of a pool that knows callbacks and of one that does not', async t => {
  for (const knowsCallbacks of [true, false]) {
    const client = Object.assign(new EventEmitter(), {
      query: async () => ({ rows: [] }),
      release () { t.equal(client.listenerCount('error'), 0, 'and nothing of ours stays') }
    }) as EventEmitter & ClientLike
    const connect = (callback?: (error: null, client: ClientLike) => void): Promise<ClientLike> | undefined => {
      if (!knowsCallbacks || callback === undefined) return Promise.resolve(client)
      callback(null, client)
      // As where the last answer and the end of the session come in one packet: no turn in between.
      client.emit('error', new Error('terminating connection'))
      return undefined
    }
    const acquired = await acquireClient({ connect, query: client.query } as unknown as PoolLike)
    t.equal(acquired, client)
    client.emit('error', new Error('terminating connection'))
    forgetErrors(acquired)
    acquired.release()
  }
  const none = { connect: (callback: (error: Error) => void) => { callback(new Error('no room')) } }
  await t.rejects(acquireClient(none as unknown as PoolLike), { message: 'no room' })
  const broken = { connect: async () => { throw new Error('no room either') } }
  await t.rejects(acquireClient(broken as unknown as PoolLike), { message: 'no room either' })
})

t.test('apply() on PostgreSQL', t => {
  t.test('writes nothing but the version where the content is the same, so that an app\'s own edit stays', async t => {
    const { pool, sync, apply } = await onPostgres(t)
    await apply(seen('a', base, { firstName: 'Ada' }))
    await pool.query("UPDATE users SET first_name = 'by hand', is_active = false, onboarding_completed = true")
    t.strictSame(await apply(seen('a', base + 1, { firstName: 'Ada' })), ['unchanged'])
    t.match((await pool.query('SELECT * FROM users')).rows, [{
      first_name: 'by hand', is_active: false, onboarding_completed: true, clerk_updated_at: new Date(base + 1)
    }])
    t.strictSame(await apply(seen('a', base + 2, { firstName: 'Augusta' })), ['updated'])
    t.match((await pool.query('SELECT * FROM users')).rows, [{ first_name: 'Augusta', is_active: false, onboarding_completed: true }])
    t.match(sync.stats.snapshot(), { performed: 3, profileCreates: 1 })
  })

  t.test('an unchanged batch writes no WAL record', async t => {
    const { pool, apply } = await onPostgres(t)
    const batch = Array.from({ length: 200 }, (_, n) => seen(`user_${n}`, base))
    await apply(...batch)
    await pool.query('VACUUM (FREEZE, ANALYZE) users')
    await apply(...batch)
    const walOf = async (): Promise<string> => {
      return (await pool.query('SELECT pg_current_wal_insert_lsn() AS at')).rows[0].at
    }
    // Other processes of the server may write as well: of several tries one must be quiet.
    let quiet = 0
    for (let tries = 0; tries < 20 && quiet === 0; tries++) {
      const before = await walOf()
      t.equal((await apply(...batch)).filter(kind => kind === 'unchanged').length, 200)
      if (await walOf() === before) quiet++
    }
    t.equal(quiet, 1)
  })

  t.test('sessions join by the later instant, expired ones go with the next write, and what a hand wrote stays', async t => {
    const { pool, apply } = await onPostgres(t)
    const soon = Date.now() + 60_000
    const revoked = async (): Promise<unknown> => {
      const { rows: [user] } = await pool.query('SELECT revoked_sessions FROM users')
      return Object.entries(user.revoked_sessions).toSorted(([a], [b]) => a < b ? -1 : 1)
    }
    await apply(sessionEnded(issuer, 'a', 's1', soon), sessionEnded(issuer, 'a', 's1', soon - 5))
    t.strictSame(await revoked(), [['s1', soon]])
    t.strictSame(await apply(sessionEnded(issuer, 'a', 's1', soon - 9)), ['unchanged'])
    t.strictSame(await apply(sessionEnded(issuer, 'a', 's1', soon + 9)), ['updated'])
    t.strictSame(await revoked(), [['s1', soon + 9]])
    await pool.query('UPDATE users SET revoked_sessions = revoked_sessions || \'{"old": 1000, "hand": "x", "null": null}\'')
    await apply(seen('a', base), sessionEnded(issuer, 'a', '__proto__', soon), sessionEnded(issuer, 'a', 'hand', soon))
    t.strictSame(await revoked(), [['__proto__', soon], ['hand', 'x'], ['null', null], ['s1', soon + 9]])
    await pool.query('UPDATE users SET revoked_sessions = \'["s7", null, "s8"]\'')
    t.strictSame(await apply(sessionEnded(issuer, 'a', 's7', soon)), ['unchanged'], 'a plain list has it already')
    await apply(sessionEnded(issuer, 'a', 's9', soon))
    t.strictSame(await revoked(), [['s7', null], ['s8', null], ['s9', soon]])
    t.match((await pool.query('SELECT first_name, clerk_updated_at FROM users')).rows, [{ first_name: 'Ada', clerk_updated_at: new Date(base) }])
  })

  t.test('a row remembers a thousand sessions, those whose tokens live longest, in whatever order they come', async t => {
    const { pool, apply } = await onPostgres(t)
    const soon = Date.now() + 60_000
    const ends = Array.from({ length: 1100 }, (_, n) => sessionEnded(issuer, 'a', `sess_${n}`, soon + n))
    await apply(...ends.slice(500))
    await apply(...ends.slice(0, 500))
    const { rows: [{ revoked_sessions: kept }] } = await pool.query('SELECT revoked_sessions FROM users')
    t.equal(Object.keys(kept).length, 1000)
    t.equal(Math.min(...Object.values(kept).map(Number)), soon + 100)
  })

  t.test('the server gives a write up when we do, and a process that hangs in one; a stricter setting counts', async t => {
    const { pool, url } = await pools(t)
    await migrate({ pool })
    await pool.query(`CREATE TABLE limits (names text);
      CREATE FUNCTION note () RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
        INSERT INTO limits VALUES (concat_ws(' ', current_setting('lock_timeout'),
          current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')));
        RETURN NULL;
      END $body$;
      CREATE TRIGGER note AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION note()`)
    const limits = async (): Promise<string> => (await pool.query('DELETE FROM limits RETURNING names')).rows[0].names
    const settings = [
      ['', /^2s \d+(?:ms|s) 5s$/],
      ['-c lock_timeout=100 -c statement_timeout=1s -c idle_in_transaction_session_timeout=3000', /^100ms 1s 3s$/],
      ['-c lock_timeout=1min -c statement_timeout=1h -c idle_in_transaction_session_timeout=1d', /^2s \d+(?:ms|s) 5s$/]
    ] as const
    for (const [place, [options, expected]] of settings.entries()) {
      const own = new pg.Pool({ connectionString: url, max: 1, options })
      t.teardown(async () => { await own.end() })
      await syncOn(own).apply([seen(`user_${place}`, base)], { deadline: deadlineIn(t, 7000) })
      t.match(await limits(), expected, options)
    }
  })

  t.test('a session\'s end is stored whether or not the profile beside it is news, in one statement', async t => {
    const { pool, apply, counted } = await onPostgres(t)
    const soon = Date.now() + 60_000
    await apply(seen('a', base + 5, { firstName: 'Newest' }))
    counted.statements.length = 0
    t.strictSame(await apply(seen('a', base, { firstName: 'Older' }), sessionEnded(issuer, 'a', 's1', soon)), ['updated', 'updated'])
    t.equal(counted.statements.filter(name => !name.startsWith('BEGIN')).length, 2, 'one to read, one to write')
    t.match((await pool.query('SELECT first_name, revoked_sessions FROM users')).rows, [{ first_name: 'Newest', revoked_sessions: { s1: soon } }])
  })

  t.test('a row that is refused is a dead letter with its SQLSTATE and its bytes, once, and the others are written', async t => {
    const { pool, sync } = await onPostgres(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, first_name varchar(5))')
    const deadline = deadlineIn(t, 10_000)
    const received = Buffer.from('{"odd":"\\u0000","bytes":"\xff"}', 'latin1')
    const batch = Array.from({ length: 50 }, (_, n) => seen(`user_${n}`, base, { firstName: n % 20 === 7 ? 'too long' : 'Ada' }))
    const outcomes = await sync.apply(batch, { deadline, lane: 'webhook', received })
    t.equal(outcomes.filter(({ kind }) => kind === 'created').length, 47)
    t.match(outcomes.find(({ kind }) => kind === 'dead_lettered'), { error: { code: 'ORI_SYNC_VALUE_TOO_LONG' } })
    await sync.apply(batch, { deadline, lane: 'webhook', received })
    const { rows } = await pool.query('SELECT * FROM sync_dead_letters ORDER BY clerk_user_id')
    t.match(rows, [27, 47, 7].map(n => ({ clerk_user_id: `user_${n}`, lane: 'webhook', sqlstate: '22001', reason: /takes 5 characters/, received })))
    t.equal(rows.length, 3)
  })

  t.test('what is refused takes nothing else of the same user along: neither the end of a session nor an earlier profile', async t => {
    const { pool, apply } = await onPostgres(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, first_name text CHECK (first_name <> \'Poison\'))')
    const soon = Date.now() + 60_000
    t.strictSame(await apply(
      seen('a', base + 2, { firstName: 'Poison' }), sessionEnded(issuer, 'a', 's1', soon), seen('a', base + 1), seen('a', base)
    ), ['dead_lettered', 'created', 'created', 'outdated'])
    t.strictSame(await apply(seen('b', base, { firstName: 'Poison' }), sessionEnded(issuer, 'b', 's2', soon)), ['dead_lettered', 'created'])
    t.match((await pool.query('SELECT clerk_user_id, clerk_updated_at, revoked_sessions FROM users ORDER BY 1')).rows, [
      { clerk_user_id: 'a', clerk_updated_at: new Date(base + 1), revoked_sessions: { s1: soon } },
      { clerk_user_id: 'b', clerk_updated_at: null, revoked_sessions: { s2: soon } }
    ])
    t.equal((await pool.query('SELECT FROM sync_dead_letters')).rowCount, 2)
    await pool.query("ALTER TABLE users ADD CHECK (revoked_sessions = '{}') NOT VALID")
    t.strictSame(await apply(sessionEnded(issuer, 'c', 's', soon)), ['dead_lettered'])
  })

  t.test('a ban is stored also where the profile beside it is refused, and a profile that fits lifts it', async t => {
    const { pool, sync, apply } = await onPostgres(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, first_name varchar(5))')
    const load = async (): Promise<unknown> => await sync.load([request('a')], deadlineIn(t, 5000))[0]
    const changes: UserChange[] = []
    sync.onChange(change => { changes.push(change) })
    await apply(seen('a', base), seen('b', base))
    changes.length = 0
    t.strictSame(await apply(seen('a', base + 2, { firstName: 'too long', blocked: true })), ['dead_lettered'])
    t.match(changes, [{ revision: 2 }])
    t.match(await load(), { kind: 'inactive' })
    t.strictSame(await apply(seen('a', base + 1)), ['outdated'], 'one that came before and arrives later does not lift it')
    t.match((await pool.query("SELECT first_name, provider_blocked FROM users WHERE clerk_user_id = 'a'")).rows, [{ first_name: null, provider_blocked: true }], 'whatever had come before')
    t.strictSame(await apply(seen('a', base + 3, { firstName: 'Bob' })), ['updated'])
    t.match(await load(), { kind: 'active', user: { firstName: 'Bob' } })
    t.strictSame(await apply(seen('new', base, { firstName: 'too long', blocked: true })), ['dead_lettered'])
    t.match(await sync.load([request('new')], deadlineIn(t, 5000))[0], { kind: 'inactive' }, 'whether or not there was a row')
    const barred = syncOn(pool, { provider: providerOf(() => ({ kind: 'found', profile: { ...profile, firstName: 'too long', blocked: true }, version: base + 9 })) })
    t.match(await barred.load([request('b', {}, { force: true })], deadlineIn(t, 5000))[0], { kind: 'inactive' }, 'the same with a request')
  })

  t.test('a row that a session\'s end made is compared with the provider at the next request', async t => {
    const { pool, apply } = await onPostgres(t)
    await apply(sessionEnded(issuer, 'a', 's', Date.now() + 60_000))
    const sync = syncOn(pool, { provider: providerOf(() => ({ kind: 'found', profile: { ...profile, email: null }, version: base })) })
    t.match(await sync.load([request('a')], deadlineIn(t, 5000))[0], { sync: 'performed', user: { firstName: 'Ada' }, revokedSessions: ['s'] })
  })

  t.test('a request whose user cannot be stored leaves a dead letter, too, and is answered as before where none can be kept', async t => {
    const { pool, sync } = await onPostgres(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, first_name varchar(5))')
    const load = async (): Promise<unknown> => await sync.load([request('a', { given_name: 'too long' })], deadlineIn(t, 5000))[0]!
    await t.rejects(load(), { code: 'ORI_SYNC_VALUE_TOO_LONG' })
    await t.rejects(load(), { code: 'ORI_SYNC_VALUE_TOO_LONG' })
    t.match((await pool.query('SELECT * FROM sync_dead_letters')).rows, [{ lane: 'request', clerk_user_id: 'a' }])
    await pool.query('DROP TABLE sync_dead_letters')
    await t.rejects(load(), { code: 'ORI_SYNC_VALUE_TOO_LONG' })
  })

  t.test('a deleted user stays deleted, whatever comes later; the policy decides of the row', async t => {
    for (const deletionPolicy of ['deactivate', 'delete'] as const) {
      const { pool, apply, sync } = await onPostgres(t, null, { deletionPolicy })
      await apply(seen('a', base), seen('b', base))
      t.strictSame(await apply(userDeleted(issuer, 'a'), userDeleted(issuer, 'c')), ['tombstoned', 'tombstoned'])
      t.strictSame(await apply(seen('a', base + 9), seen('c', base + 9), seen('b', base + 9)), ['tombstoned', 'tombstoned', 'unchanged'])
      const { rows } = await pool.query('SELECT clerk_user_id, first_name, deleted_at IS NOT NULL AS deleted FROM users ORDER BY 1')
      t.strictSame(rows, deletionPolicy === 'delete'
        ? [{ clerk_user_id: 'b', first_name: 'Ada', deleted: false }]
        : [{ clerk_user_id: 'a', first_name: 'Ada', deleted: true }, { clerk_user_id: 'b', first_name: 'Ada', deleted: false }])
      t.strictSame((await pool.query('SELECT clerk_user_id FROM user_tombstones ORDER BY 1')).rows, [{ clerk_user_id: 'a' }, { clerk_user_id: 'c' }])
      t.match(await Promise.all(sync.load([request('a'), request('c')], deadlineIn(t, 5000))), [{ kind: 'deleted' }, { kind: 'deleted' }])
    }
  })

  t.test('a row that other tables refer to stays, marked, and is a dead letter under the policy that removes it', async t => {
    const { pool, apply } = await onPostgres(t, null, { deletionPolicy: 'delete' })
    await apply(seen('a', base), seen('b', base))
    await pool.query('CREATE TABLE orders (user_id bigint REFERENCES users)')
    await pool.query("INSERT INTO orders SELECT id FROM users WHERE clerk_user_id = 'a'")
    t.strictSame(await apply(userDeleted(issuer, 'a'), userDeleted(issuer, 'b')), ['dead_lettered', 'tombstoned'])
    t.strictSame((await pool.query('SELECT clerk_user_id, deleted_at IS NOT NULL AS deleted FROM users')).rows, [{ clerk_user_id: 'a', deleted: true }])
    t.match((await pool.query('SELECT * FROM sync_dead_letters')).rows, [{ clerk_user_id: 'a', sqlstate: '23503' }])
  })

  t.test('a deletion waits for rows in the making, so that none of them comes back', async t => {
    const { pool, counted, sync, apply } = await onPostgres(t, null, { deletionPolicy: 'delete' })
    // A row is made, and its transaction is held open before it commits.
    await pool.query('CREATE FUNCTION hold () RETURNS trigger LANGUAGE plpgsql AS \'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END\'')
    await pool.query("CREATE TRIGGER hold AFTER INSERT ON users FOR EACH ROW WHEN (NEW.clerk_user_id = 'a') EXECUTE FUNCTION hold()")
    const holder = await pool.connect()
    await holder.query('SELECT pg_advisory_lock(42)')
    const making = sync.load([request('a', { given_name: 'Ada' })], deadlineIn(t, 10_000))[0]!
    await waitingLocks(pool, 1)
    const deleting = apply(userDeleted(issuer, 'a'))
    const looks = (): number => counted.statements.filter(name => name.startsWith('smart_sync_creations')).length
    while (looks() < 3) await new Promise(resolve => { setTimeout(resolve, 5) })
    t.match(await sync.load([request('b', { given_name: 'Bea' })], deadlineIn(t, 10_000))[0], { kind: 'active' }, 'and nothing waits for it')
    await holder.query('SELECT pg_advisory_unlock(42)')
    holder.release()
    t.match(await making, { kind: 'active' })
    t.strictSame(await deleting, ['tombstoned'])
    t.equal((await pool.query("SELECT FROM users WHERE clerk_user_id = 'a'")).rowCount, 0)
    t.strictSame(await apply(seen('a', base)), ['tombstoned'])
    t.equal((await pool.query("SELECT FROM users WHERE clerk_user_id = 'a'")).rowCount, 0)
  })

  t.test('an address that one user of a batch gives up and another takes is stored, whichever is written first', async t => {
    const { pool, sync, apply } = await onPostgres(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, email text UNIQUE)')
    await apply(seen('b', base, { email: 'x@example.com' }), seen('c', base, { email: 'c@example.com' }))
    await apply(seen('a', base, { email: 'x@example.com' }), seen('b', base + 1, { email: 'y@example.com' }))
    const emails = async (): Promise<unknown> => (await pool.query('SELECT clerk_user_id, email FROM users ORDER BY 1')).rows.map(row => row.email)
    t.strictSame(await emails(), ['x@example.com', 'y@example.com', 'c@example.com'])
    t.equal(sync.stats.snapshot().emailCollisions, 0)
    await apply(seen('a', base + 1, { email: 'c@example.com' }))
    t.strictSame(await emails(), [null, 'y@example.com', 'c@example.com'])
    t.equal(sync.stats.snapshot().emailCollisions, 1)
  })

  t.test('an address that another row had is stored once it is free, when the profile is given once more', async t => {
    const { pool, sync, apply } = await onPostgres(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, email text UNIQUE)')
    const events = [
      seen('a', base, { email: 'x@example.com' }), seen('b', base, { email: 'x@example.com' }), seen('a', base + 1, { email: 'y@example.com' })
    ]
    for (const order of [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]) {
      await pool.query('TRUNCATE users')
      for (const n of [...order, ...order]) await apply(events[n]!)
      const { rows } = await pool.query('SELECT clerk_user_id, email FROM users ORDER BY 1')
      t.strictSame(rows.map(row => row.email), ['y@example.com', 'x@example.com'], String(order))
    }
    t.ok(sync.stats.snapshot().emailCollisions > 0)
  })

  t.test('what a table drops without an error is not acknowledged as stored: it is a dead letter', async t => {
    const dropping = (event: string, when = 'true'): string => `CREATE OR REPLACE FUNCTION drop_it () RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN IF ${when} THEN RETURN NULL; END IF; RETURN NEW; END'; CREATE TRIGGER a_drop BEFORE ${event} ON users FOR EACH ROW EXECUTE FUNCTION drop_it()`
    const { pool, apply } = await onPostgres(t)
    await apply(seen('a', base), seen('b', base))
    await pool.query(dropping('UPDATE', "OLD.clerk_user_id = ''a''"))
    const soon = Date.now() + 60_000
    t.strictSame(await apply(seen('a', base + 1, { blocked: true }), seen('b', base + 1, { firstName: 'Bea' })), ['dead_lettered', 'updated'])
    t.strictSame(await apply(sessionEnded(issuer, 'a', 's', soon), sessionEnded(issuer, 'b', 's', soon)), ['dead_lettered', 'updated'])
    t.strictSame(await apply(userDeleted(issuer, 'a'), userDeleted(issuer, 'b')), ['dead_lettered', 'tombstoned'])
    await pool.query('DROP TRIGGER a_drop ON users')
    t.strictSame(await apply(seen('a', base + 2, { firstName: 'Eve' })), ['updated'], 'a row that was there goes on until its deletion is given once more')
    t.strictSame(await apply(userDeleted(issuer, 'a')), ['tombstoned'])
    await pool.query(dropping('INSERT'))
    t.strictSame(await apply(seen('new', base)), ['dead_lettered'])
    t.equal((await pool.query("SELECT FROM sync_dead_letters WHERE reason LIKE '%said nothing%'")).rowCount, 4)
  })

  t.test('where the app makes a row for a user who was deleted, it is marked as soon as anything is learned of them', async t => {
    for (const createUsers of [true, false]) {
      const { pool, sync, apply } = await onPostgres(t, null, {}, { createUsers })
      await apply(userDeleted(issuer, 'a'), userDeleted(issuer, 'b'))
      await pool.query("INSERT INTO users (issuer, clerk_user_id) VALUES ($1, 'a'), ($1, 'b')", [issuer])
      t.strictSame(await apply(seen('a', base), seen('c', base)), ['tombstoned', createUsers ? 'created' : 'unknown'])
      t.match(await sync.load([request('b', { given_name: 'Bea' })], deadlineIn(t, 5000))[0], { kind: 'deleted' })
      t.equal((await pool.query("SELECT FROM users WHERE clerk_user_id IN ('a', 'b') AND deleted_at IS NULL")).rowCount, 0)
    }
  })

  t.test('where the app makes the rows, a user without one is unknown, and a deletion leaves its tombstone', async t => {
    const { pool, apply } = await onPostgres(t, null, {}, { createUsers: false })
    t.strictSame(await apply(seen('a', base), userDeleted(issuer, 'b'), sessionEnded(issuer, 'c', 's', Date.now() + 1000)), ['unknown', 'tombstoned', 'unknown'])
    t.equal((await pool.query('SELECT FROM users')).rowCount, 0)
    await pool.query("INSERT INTO users (issuer, clerk_user_id) VALUES ($1, 'a')", [issuer])
    t.strictSame(await apply(seen('a', base)), ['updated'])
  })

  t.test('where all rows are of one issuer, nothing of another\'s user is stored, not even a deletion', async t => {
    for (const createUsers of [true, false]) {
      for (const deletionPolicy of ['deactivate', 'delete'] as const) {
        const ours = { issuer: { always: 'https://a.example' }, createUsers }
        const { pool, sync } = await onPostgres(t, null, { deletionPolicy }, ours)
        await pool.query("INSERT INTO users (clerk_user_id) VALUES ('user_1')")
        const b = 'https://b.example'
        t.strictSame(kinds(await sync.apply([
          userDeleted(b, 'user_1'), sessionEnded(b, 'user_1', 's', Date.now() + 60_000), observe(b, 'user_2', profile, base, true)
        ], { deadline: deadlineIn(t, 5000) })), ['unknown', 'unknown', 'unknown'])
        t.match((await pool.query('SELECT clerk_user_id, deleted_at, revoked_sessions FROM users')).rows, [{ clerk_user_id: 'user_1', deleted_at: null, revoked_sessions: {} }])
        t.equal((await pool.query('SELECT FROM user_tombstones')).rowCount, 0)
      }
    }
  })

  t.test('whatever is written waits for the disk where the server would not', async t => {
    const { pool, url } = await pools(t)
    await migrate({ pool })
    await pool.query(`CREATE TABLE commits (how text);
      CREATE FUNCTION note () RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO commits VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END';
      CREATE TRIGGER note AFTER INSERT OR UPDATE ON users FOR EACH ROW EXECUTE FUNCTION note()`)
    const how = async (): Promise<string[]> => (await pool.query('DELETE FROM commits RETURNING how')).rows.map(row => row.how)
    for (const [setting, kept] of [['off', 'on'], ['local', 'local']] as const) {
      const lax = new pg.Pool({ connectionString: url, max: 1, options: `-c synchronous_commit=${setting}` })
      t.teardown(async () => { await lax.end() })
      const sync = syncOn(lax)
      const options = { deadline: deadlineIn(t, 5000), lane: 'webhook' } as const
      await sync.apply([seen(`${setting}1`, base)], options)
      await sync.apply([seen(`${setting}1`, base + 1)], options)
      await sync.apply([sessionEnded(issuer, `${setting}1`, 's', Date.now() + 60_000)], options)
      await sync.apply([userDeleted(issuer, `${setting}1`)], options)
      t.strictSame(await how(), [kept, kept, kept, kept], setting)
      t.match(await sync.load([request(`${setting}2`)], options.deadline)[0], { sync: 'performed' })
      t.strictSame(await how(), [kept], `${setting}: of a request`)
      t.match((await lax.query('SHOW synchronous_commit')).rows, [{ synchronous_commit: setting }], 'the connection is as it was')
    }
  })

  t.test('a transaction whose connection is cut is begun anew, and a refusal leaves the connection as it was', async t => {
    const { pool, apply } = await onPostgres(t, null, {}, {}, 1)
    await pool.query(`CREATE FUNCTION die () RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN IF NEW.clerk_user_id = ''victim'' AND nextval(''deaths'') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END'`)
    await pool.query('CREATE SEQUENCE deaths')
    await pool.query('CREATE TRIGGER die BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION die()')
    t.strictSame(await apply(seen('victim', base)), ['created'])
    await pool.query('ALTER TABLE users ADD CHECK (first_name <> \'Eve\')')
    t.strictSame(await apply(seen('eve', base, { firstName: 'Eve' }), seen('b', base)), ['dead_lettered', 'created'])
    t.equal((await pool.query('SELECT count(*)::int AS n FROM users')).rows[0].n, 2)
  })

  t.test('a table whose profile column is json is written as one whose is jsonb', async t => {
    const { pool, apply } = await onPostgres(t, 'CREATE TABLE users (id bigserial PRIMARY KEY, profile_data json)')
    t.strictSame(await apply(seen('a', base)), ['created'])
    t.strictSame(await apply(seen('a', base + 1, { data: { plan: 'team' } })), ['updated'])
    t.match((await pool.query('SELECT profile_data FROM users')).rows, [{ profile_data: { plan: 'team' } }])
  })
  t.end()
})

t.test('the log is told of a provider that cannot be asked, and of tokens of another issuer', async t => {
  const lines: string[] = []
  const tell = (level: string) => (_details: object, message: string): void => { lines.push(`${level} ${message}`) }
  const log = { error: tell('error'), warn: tell('warn'), info: tell('info') }
  const clock = new ManualClock({ now })
  const watch = new ProviderWatch(log, clock)
  watch.ended(null)
  watch.ended(new errors.ProviderUnavailable('down'))
  watch.ended(new errors.ProviderUnavailable('down'))
  t.equal(watch.failure?.message, 'The identity provider could not be asked: down.')
  watch.ended(null)
  t.equal(watch.failure, null)
  watch.ended(new errors.ProviderRefused('401'))
  clock.advance(60_000)
  watch.ended(new errors.ProviderRefused('401'))
  t.match(lines.splice(0), [/^warn .*could not be asked/, /^info .*can be asked again/, /^error .*could not be asked/])
  const { store, sync, deadline } = setup({ log })
  Object.assign(store, { mayHold: () => false, mayCreate: () => false })
  await Promise.all(sync.load([request('a'), request('b')], deadline))
  t.match(lines, [/^warn .*a token is of another issuer/])
  t.equal(lines.length, 1)
})

t.test('a user who has a row waits at most 75 ms for the provider', t => {
  interface Slow {
    readonly clock: ManualClock
    readonly store: MemoryStore
    readonly sync: SmartDatabaseSync
    readonly changes: UserChange[]
    readonly asked: string[][]
    answer (version: number | null, kind?: 'found' | 'unknown'): void
  }
  const slow = (subjects: readonly string[] = ['a']): Slow => {
    const clock = new ManualClock({ now })
    const store = new MemoryStore()
    for (const subject of subjects) store.rows.set(row(subject).key, row(subject, { lastSyncedAtMs: null }))
    const waiting: Array<(version: number | null, kind: 'found' | 'unknown') => void> = []
    const asked: string[][] = []
    const sync = new SmartDatabaseSync({
      store,
      clock,
      claims: defaultClaimNames,
      forceSyncAfterMs: 3_600_000,
      parseProfile: null,
      provider: {
        serves: () => true,
        lookUp: async (_issuer, wanted) => {
          asked.push([...wanted])
          return await new Promise(resolve => {
            waiting.push((version, kind) => {
              resolve(new Map(wanted.map(subject => [subject, kind === 'unknown' ? { kind } : { kind, profile, version }])))
            })
          })
        }
      }
    })
    const changes: UserChange[] = []
    sync.onChange(change => { changes.push(change) })
    return { clock, store, sync, changes, asked, answer: (version, kind = 'found') => { waiting.shift()!(version, kind) } }
  }

  t.test('and the look-up goes on behind: what it finds is stored and announced', async t => {
    const { clock, store, sync, changes, answer } = slow()
    const record = sync.load([request('a')], startDeadline(clock, 2000))[0]!
    await after(clock, 74)
    t.equal(await Promise.race([record, Promise.resolve('waiting')]), 'waiting')
    await after(clock, 1)
    t.match(await record, { kind: 'active', sync: 'failed', revision: 1 })
    t.strictSame(changes, [])
    await after(clock, 3000)
    answer(5000)
    await sync.idle()
    t.equal(store.rows.get(row('a').key)?.version, 5000)
    t.match(changes, [{ kind: 'user', revision: 2 }])
    t.match(sync.stats.snapshot(), { attempts: 1, performed: 1 })
  })

  t.test('what comes in time is in the answer', async t => {
    const { clock, sync, answer } = slow()
    const record = sync.load([request('a')], startDeadline(clock, 2000))[0]!
    await after(clock, 70)
    answer(5000)
    t.match(await record, { sync: 'performed', revision: 2 })
  })

  t.test('while it goes on the user is not asked for again; others are', async t => {
    const { clock, sync, asked, answer } = slow(['a', 'b'])
    const first = sync.load([request('a')], startDeadline(clock, 2000))[0]!
    await after(clock, 75)
    await first
    const again = sync.load([request('a'), request('b')], startDeadline(clock, 2000))
    await after(clock, 75)
    t.match(await Promise.all(again), [{ sync: 'failed' }, { sync: 'failed' }])
    t.strictSame(asked, [['a'], ['b']])
    answer(5000)
    answer(5000)
    await sync.idle()
    const third = sync.load([request('a', { updated_at: now + 5000 })], startDeadline(clock, 2000))[0]!
    await after(clock, 0)
    answer(now + 5000)
    t.match(await third, { sync: 'performed' })
    t.equal(asked.length, 3)
  })

  t.test('a user who was answered as stored and turns out to be unknown is announced', async t => {
    const { clock, sync, changes, answer } = slow()
    const record = sync.load([request('a')], startDeadline(clock, 2000))[0]!
    await after(clock, 75)
    t.match(await record, { kind: 'active' })
    answer(null, 'unknown')
    await sync.idle()
    t.match(changes, [{ kind: 'user', revision: null }])
  })

  t.test('a forced comparison, and a user without a row, wait for it', async t => {
    const { clock, sync, answer } = slow()
    const records = sync.load([request('a', {}, { force: true }), request('new')], startDeadline(clock, 2000))
    await after(clock, 1000)
    answer(5000)
    t.match(await Promise.all(records), [{ sync: 'performed' }, { sync: 'performed' }])
  })

  t.test('a provider that hangs is given up behind after ten seconds, and closing does not wait for it', async t => {
    const { clock, sync } = slow(['a', 'b'])
    const record = sync.load([request('a')], startDeadline(clock, 2000))[0]!
    await after(clock, 75)
    await record
    await after(clock, 10_000)
    await sync.idle()
    t.match(sync.stats.snapshot(), { errorsByReason: { provider: 1 } })
    const other = sync.load([request('b')], startDeadline(clock, 2000))[0]!
    await after(clock, 75)
    await other
    await sync.close()
    t.match(sync.stats.snapshot(), { errorsByReason: { provider: 2 } })
  })
  t.end()
})

/** Lets what is under way come to rest, then time pass, then what follows from it. */
async function after (clock: ManualClock, ms: number): Promise<void> {
  await clock.settle()
  clock.advance(ms)
  await clock.settle()
}

interface OnPostgres {
  readonly pool: Awaited<ReturnType<typeof pools>>['pool']
  readonly counted: Awaited<ReturnType<typeof pools>>['counted']
  readonly sync: SmartDatabaseSync
  apply (...observations: Observation[]): Promise<string[]>
}

async function onPostgres (
  t: Test, table: string | null = null, options: Partial<SmartDatabaseSyncOptions> = {},
  described: Parameters<typeof storeOn>[2] = {}, max = 10
): Promise<OnPostgres> {
  const { pool, counted } = await pools(t, max)
  if (table !== null) await pool.query(table)
  await migrate({ pool, ...described })
  const sync = syncOn(counted, { store: storeOn(counted, undefined, described), ...options })
  const apply = async (...observations: Observation[]): Promise<string[]> => {
    return kinds(await sync.apply(observations, { deadline: deadlineIn(t, 10_000), lane: 'webhook' }))
  }
  return { pool, counted, sync, apply }
}

async function waitingLocks (pool: OnPostgres['pool'], count: number): Promise<void> {
  const waiting = "SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
  while ((await pool.query(waiting)).rows[0].n < count) await new Promise(resolve => { setTimeout(resolve, 5) })
}
