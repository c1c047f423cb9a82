import {
  SourceUnavailable, startDeadline, systemClock, type PoolLike, type StatementConfig
} from '@orientor/session-contract/core'
import { postgresFaults, testServer, until } from '@orientor/test-kit'
import fc from 'fast-check'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { ClerkWebhook } from '../src/clerk/clerk-webhook.js'
import { migrate } from '../src/migrate.js'
import { observe, sessionEnded, userDeleted, type Observation, type ProfileObserved } from '../src/observation.js'
import type { SmartDatabaseSync } from '../src/smart-database-sync.js'
import type { DeletionPolicy, Lane, StoredUser } from '../src/user-store.js'
import { expectedUsers, judge, readHoldings, type Evidence, type Judgement } from './fixtures/expected-users.js'
import {
  deadlineIn, issuer, one, poolOn, pools, profile, providerOf, request, storeOn, syncOn
} from './fixtures/on-postgres.js'
import { unreliablePool } from './fixtures/unreliable-pool.js'
import { secret, signedHeaders } from './fixtures/webhooks.js'
import {
  bodyOf, deletionOf, makeWorld, observationsOf, randomOf, redelivered, refusedName, revokedForMs, shuffled, type World,
  type WorldEvent
} from './fixtures/world.js'

const policies: readonly DeletionPolicy[] = ['deactivate', 'delete']
const seed = Number(process.env['ORIENTOR_SEED'] ?? Math.trunc(Math.random() * 2 ** 31))
/** A tenth of the world of the fault tests. */
const size = { users: 50, events: 1000, twiceRatio: 0.3 }
const smallWorlds = Number(process.env['ORIENTOR_WORLDS'] ?? 40)
/** The most times that a batch is applied again: more is a defect. */
const maxAgain = 20
const none: Judgement = { lost: [], stale: [], resurrected: [], orderDependent: [] }

/** A database in which the app has a constraint of its own, and a way to begin anew. */
async function workshop (t: Test): Promise<{ pool: pg.Pool, clear: () => Promise<void> }> {
  const { pool } = await pools(t, 16)
  await migrate({ pool })
  await pool.query(`ALTER TABLE users ADD CONSTRAINT app_name CHECK (first_name <> '${refusedName}')`)
  const clear = async (): Promise<void> => {
    await pool.query('TRUNCATE users, user_tombstones, sync_dead_letters RESTART IDENTITY')
  }
  return { pool, clear }
}

/** How a world came into the table. */
interface Arrival {
  readonly applied: number
  /** Applied again, as the sender of a webhook does, since the database could not be had. */
  readonly again: number
  readonly collisions: number
  /** The users whom the app has switched off, and whose onboarding it has completed. */
  readonly marked: readonly string[]
}

/**
 * Applies a world in an order of its own, in batches of 1 to 40, by four instances at once. Meanwhile, and before, the
 * app writes its own columns of every fifth user.
 */
async function arrive (pool: pg.Pool, world: World, policy: DeletionPolicy, order: number): Promise<Arrival> {
  const random = randomOf(order)
  const queue = redelivered(world.events, random, size.twiceRatio)
  const syncs = Array.from({ length: 4 }, () => syncOn(pool, { store: storeOn(pool), deletionPolicy: policy }))
  const mine = world.subjects.filter((_, place) => place % 5 === 0)
  const [before, during] = [mine.slice(0, mine.length / 2), shuffled(mine.slice(mine.length / 2), random)]
  await pool.query(`INSERT INTO users (issuer, clerk_user_id, is_active, onboarding_completed)
    SELECT $1, s, false, true FROM unnest($2::text[]) AS s`, [issuer, before])
  const marked = new Set(before)
  const mark = async (subjects: readonly string[]): Promise<void> => {
    const { rows } = await pool.query(`UPDATE users SET is_active = false, onboarding_completed = true
      WHERE clerk_user_id = ANY ($1) RETURNING clerk_user_id AS subject`, [subjects])
    for (const { subject } of rows) marked.add(subject)
  }
  let [total, again] = [0, 0]
  await Promise.all(syncs.map(async (sync, place) => {
    for (;;) {
      const batch = next(queue, random, 40)
      if (batch.length === 0) return
      const observations = batch.flatMap(observationsOf)
      again += await applied(sync, observations, place % 2 === 0 ? 'webhook' : 'reconciliation')
      total += observations.length
      if (during.length > 0 && random() < 0.3) await mark([during.pop()!])
    }
  }))
  await mark(mine)
  const collisions = syncs.map(({ stats }) => stats.snapshot().emailCollisions).reduce((sum, count) => sum + count, 0)
  return { applied: total, again, collisions, marked: [...marked] }
}

/** The next events of a queue, at most so many. */
function next (queue: WorldEvent[], random: () => number, most: number): readonly WorldEvent[] {
  return queue.splice(0, 1 + Math.floor(random() * most))
}

/**
 * Applies observations until they are stored, as the sender of a webhook has them applied; answers how often the
 * database could not be had.
 */
async function applied (sync: SmartDatabaseSync, observations: readonly Observation[], lane: Lane): Promise<number> {
  for (let again = 0; ; again++) {
    const deadline = startDeadline(systemClock, 8000)
    try {
      await sync.apply(observations, { deadline, lane })
      return again
    } catch (error) {
      if (!(error instanceof SourceUnavailable) || again === maxAgain) throw error
    } finally {
      deadline.release()
    }
  }
}

async function judged (
  pool: pg.Pool, world: World, policy: DeletionPolicy, more: Partial<Evidence> = {}
): Promise<Judgement> {
  const client = await pool.connect()
  const holdings = await readHoldings(client).finally(() => { client.release() })
  const evidence = { acknowledged: world.events, sent: world.events, removes: policy === 'delete', nowMs: Date.now() }
  return judge(holdings, { ...evidence, ...more })
}

/** Every column of every user who is not deleted, as text, but for what counts writes; and who is deleted. */
async function image (pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query(`SELECT (to_jsonb(u) - 'id' - 'revision' - 'last_clerk_sync')::text AS image
    FROM users AS u WHERE deleted_at IS NULL ORDER BY clerk_user_id`)
  const { rows: deleted } = await pool.query('SELECT clerk_user_id AS subject FROM user_tombstones ORDER BY 1')
  return [...rows.map(({ image }) => image), ...deleted.map(({ subject }) => subject)].join('\n')
}

async function unmarked (pool: pg.Pool, marked: readonly string[]): Promise<readonly string[]> {
  const { rows } = await pool.query(`SELECT clerk_user_id AS subject FROM users
    WHERE clerk_user_id = ANY ($1) AND NOT (is_active = false AND onboarding_completed = true)`, [marked])
  return rows.map(({ subject }) => subject)
}

t.test('the users table is right, whatever the order in which events arrive', async t => {
  t.test('an event is read from its webhook as it is applied here', async t => {
    const options = { secrets: [secret], issuer, instanceId: null, revokedForMs, clock: { now: Date.now } }
    const reader = new ClerkWebhook(options)
    const { events } = makeWorld(seed, size.users, size.events, Date.now() - 3_600_000)
    for (const event of events) {
      const body = Buffer.from(bodyOf(event))
      const reading = reader.read(signedHeaders(body), body)
      const observations = observationsOf(event)
      t.same(reading, observations.length === 0 ? { kind: 'ignored' } : { kind: 'observed', observations }, event.id)
    }
    const { census } = makeWorld(seed, 10 * size.users, 10 * size.events, Date.now() - 3_600_000)
    for (const [kind, count] of Object.entries(census)) t.ok(count > 0, `worlds have events of the kind ${kind}`)
  })

  for (const policy of policies) {
    const title = 'any two orders of them, in any batches, with redeliveries, by four instances, give the same rows'
    t.test(`${title} (${policy})`, async t => {
      const { pool, clear } = await workshop(t)
      let [events, observations, again] = [0, 0, 0]
      await fc.assert(fc.asyncProperty(fc.nat(2 ** 31 - 1), async worldSeed => {
        const world = makeWorld(worldSeed, size.users, size.events, Date.now() - 3_600_000)
        const images: string[] = []
        for (const order of [worldSeed + 1, worldSeed + 2]) {
          await clear()
          const arrival = await arrive(pool, world, policy, order)
          events += world.events.length
          observations += arrival.applied
          again += arrival.again
          t.strictSame(await judged(pool, world, policy), none, `world ${worldSeed} in order ${order}`)
          t.strictSame(await unmarked(pool, arrival.marked), [], 'what the app wrote of its own is as it was')
          images.push(await image(pool))
        }
        t.equal(images[0], images[1], `world ${worldSeed} gives one image`)
        return t.passing()
      }), { seed, numRuns: 1, endOnFailure: true })
      const { rows: [row] } = await pool.query(
        'SELECT deadlocks::int AS n FROM pg_stat_database WHERE datname = current_database()'
      )
      t.equal(row.n, 0, 'no two instances locked users in different orders')
      t.comment(`seed ${seed}: ${events} events, ${observations} observations applied, ${again} batches applied again`)
    })
  }

  t.test('nor does it matter how statements interleave, and which answers are lost on their way', async t => {
    const { pool, clear } = await workshop(t)
    let lost = 0
    for (let place = 0; place < smallWorlds; place++) {
      const random = randomOf(seed + place)
      const policy = policies[place % policies.length]!
      const world = makeWorld(seed + place, 3, 14, Date.now() - 3_600_000)
      const events = [...world.events, ...world.subjects.filter(() => random() < 0.6).map(deletionOf)]
      const queue = redelivered(events, random, 0.5)
      await clear()
      await Promise.all(Array.from({ length: 6 }, async () => {
        const slow = unreliablePool(pool, { random, maxPauseMs: 4, lostRatio: 0.03 })
        const sync = syncOn(slow, { store: storeOn(slow), deletionPolicy: policy })
        for (let batch = next(queue, random, 3); batch.length > 0; batch = next(queue, random, 3)) {
          lost += await applied(sync, batch.flatMap(observationsOf), 'webhook')
        }
      }))
      const evidence = { acknowledged: events, sent: events }
      t.strictSame(await judged(pool, world, policy, evidence), none, `world ${seed + place} (${policy})`)
    }
    t.ok(lost > 0, 'some batches were applied again')
    t.comment(`seed ${seed}: ${smallWorlds} small worlds, ${lost} batches applied again`)
  })

  t.test('under a unique index of the app\'s own every user comes in, with their address or without any', async t => {
    const { pool, clear } = await workshop(t)
    await pool.query('CREATE UNIQUE INDEX app_email ON users (email)')
    const world = makeWorld(seed, size.users, size.events, Date.now() - 3_600_000)
    const expected = expectedUsers(world.events, Date.now())
    for (const order of [seed + 1, seed + 2]) {
      await clear()
      const { collisions, marked } = await arrive(pool, world, 'deactivate', order)
      // Which of two users came first with an address is a matter of the order, and the only thing that is.
      t.strictSame(await judged(pool, world, 'deactivate', { ignoresEmails: true }), none)
      const { rows } = await pool.query('SELECT clerk_user_id AS subject, email FROM users WHERE deleted_at IS NULL')
      const without = rows.filter(({ subject, email }) => {
        const { user = null, isBare = false } = expected.get(subject) ?? {}
        return email !== (isBare ? null : user?.email ?? null)
      })
      t.strictSame(without.filter(({ email }) => email !== null), [], 'no user has an address that is not theirs')
      t.ok(collisions > 0 && collisions >= without.length, `${collisions} collisions, ${without.length} users without`)

      const requests = world.subjects.map(subject => request(subject))
      const records = await Promise.all(syncOn(pool).load(requests, deadlineIn(t, 20_000)))
      for (const [place, { kind }] of records.entries()) {
        const subject = world.subjects[place]!
        const { isDeleted, user } = expected.get(subject) ?? { isDeleted: false, user: null }
        const isOff = marked.includes(subject) || user?.banned === true
        t.equal(kind, isDeleted ? 'deleted' : isOff ? 'inactive' : 'active', subject)
      }
    }
  })
})

t.test('an address that moves within a batch goes with it, whichever user is written first', async t => {
  const { pool } = await workshop(t)
  await pool.query('CREATE UNIQUE INDEX app_email ON users (email)')
  const sync = syncOn(pool)
  const deadline = deadlineIn(t, 20_000)
  const version = 1_700_000_000_000
  const told = (subject: string, email: string, later: number): ProfileObserved => {
    return observe(issuer, subject, { ...profile, email }, version + later, true)
  }
  await sync.apply([told('user_a', 'a@example.com', 0), told('user_b', 'x@example.com', 0)], { deadline })
  for (const [later, a, b] of [[1, 'x@example.com', 'b@example.com'], [2, 'a@example.com', 'x@example.com']] as const) {
    await sync.apply([told('user_a', a, later), told('user_b', b, later)], { deadline })
    const { rows } = await pool.query('SELECT email FROM users ORDER BY clerk_user_id')
    t.strictSame(rows, [{ email: a }, { email: b }])
  }
  t.equal(sync.stats.snapshot().emailCollisions, 0)
})

/** A transaction that makes rows, held open after its snapshot and before its commit. */
interface HeldCreation {
  /** Resolves when it is held. */
  readonly held: Promise<void>
  release (): Promise<void>
}

/** Holds back every insert of one user, once its statement has taken its snapshot. */
async function holdCreationOf (t: Test, pool: pg.Pool, subject: string): Promise<HeldCreation> {
  await pool.query(`
    CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $hold$
    BEGIN
      IF NEW.clerk_user_id = '${subject}' THEN PERFORM pg_advisory_xact_lock_shared(77); END IF;
      RETURN NEW;
    END $hold$;
    CREATE OR REPLACE TRIGGER hold BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION hold()`)
  const holder = await pool.connect()
  await holder.query('SELECT pg_advisory_lock(77)')
  let isReleased = false
  const release = async (): Promise<void> => {
    if (isReleased) return
    isReleased = true
    await holder.query('SELECT pg_advisory_unlock(77)')
    holder.release()
  }
  t.teardown(release)
  const held = until('the creation is held', async () => await waiters(pool, '(classid, objid) = (0, 77)') > 0)
  return { held, release }
}

async function waiters (pool: pg.Pool, which: string): Promise<number> {
  const { rows: [row] } = await pool.query(
    `SELECT count(*)::int AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND ${which}`
  )
  return row.n
}

/** Resolves when a deletion is done, or has looked for rows in the making and waits. */
async function settledOrWaiting (statements: readonly string[], deletion: Promise<unknown>): Promise<void> {
  let isSettled = false
  deletion.then(() => { isSettled = true }, () => { isSettled = true })
  await until('the deletion is done or waits', () => {
    // A deletion that does not wait looks four times at most: twice before it marks, and twice before it removes.
    return isSettled || statements.filter(name => name.startsWith('smart_sync_creations')).length > 4
  })
}

function seen (subject: string, version = 1_700_000_000_000): ProfileObserved {
  return observe(issuer, subject, { ...profile, email: `${subject}@example.com` }, version, true)
}

/** The users whose deletion was stored, and who have a row that says nothing of it. */
async function resurrected (pool: pg.Pool): Promise<readonly string[]> {
  const { rows } = await pool.query(`SELECT u.clerk_user_id AS subject FROM users AS u
    JOIN user_tombstones AS t USING (issuer, clerk_user_id) WHERE u.deleted_at IS NULL`)
  return rows.map(({ subject }) => subject)
}

/** Three instances on one database, under a policy, and the statements of the one that deletes. */
async function instances (t: Test, deletionPolicy: DeletionPolicy): Promise<{
  pool: pg.Pool, one: SmartDatabaseSync, other: SmartDatabaseSync, deleting: SmartDatabaseSync, statements: string[]
}> {
  const { pool, counted } = await pools(t)
  await migrate({ pool })
  const make = (on: PoolLike): SmartDatabaseSync => syncOn(on, { store: storeOn(on), deletionPolicy })
  const { statements } = counted
  return { pool, one: make(pool), other: make(pool), deleting: make(counted), statements }
}

for (const policy of policies) {
  t.test(`a user who is deleted while their row is in the making stays deleted (${policy})`, async t => {
    const { pool, one, other, deleting, statements } = await instances(t, policy)
    const deadline = deadlineIn(t, 20_000)
    const creation = await holdCreationOf(t, pool, 'user_a')
    const created = one.apply([seen('user_a')], { deadline })
    await creation.held
    const deleted = deleting.apply([userDeleted(issuer, 'user_a')], { deadline })
    await settledOrWaiting(statements, deleted)
    await creation.release()
    await created
    t.match(await deleted, [{ kind: 'tombstoned' }])
    t.same(await resurrected(pool), [])
    t.match(await other.apply([seen('user_a', 1_750_000_000_000)], { deadline }), [{ kind: 'tombstoned' }])
    t.same(await resurrected(pool), [])
  })

  t.test(`a row that is committed between the tombstone and the second look is marked as well (${policy})`, async t => {
    const { pool, one, other } = await instances(t, policy)
    const deadline = deadlineIn(t, 20_000)
    const creation = await holdCreationOf(t, pool, 'user_a')
    const created = one.apply([seen('user_a')], { deadline })
    await creation.held
    // The deletion left its tombstone, and looks for rows that it did not see once this one is there.
    let looks = 0
    const slow: PoolLike = {
      connect: async () => await (pool as PoolLike).connect(),
      async query (statement: StatementConfig) {
        if (statement.name?.startsWith('smart_sync_find') === true && looks++ === 0) {
          await creation.release()
          await created
        }
        return await (pool as PoolLike).query(statement)
      }
    }
    const deleting = syncOn(slow, { store: storeOn(slow), deletionPolicy: policy })
    t.match(await deleting.apply([userDeleted(issuer, 'user_a')], { deadline }), [{ kind: 'tombstoned' }])
    t.ok(looks > 0)
    t.same(await resurrected(pool), [])
    t.match(await other.apply([seen('user_a', 1_750_000_000_000)], { deadline }), [{ kind: 'tombstoned' }])
  })

  t.test(`a user who is deleted while another instance is creating them stays deleted (${policy})`, async t => {
    const { pool, one, other, deleting, statements } = await instances(t, policy)
    const deadline = deadlineIn(t, 20_000)
    // The batch of two is held at its first, with a snapshot that knows of no row and no tombstone of the second.
    const creation = await holdCreationOf(t, pool, 'user_a')
    const both = one.apply([seen('user_a'), seen('user_b')], { deadline })
    await creation.held
    t.match(await other.apply([seen('user_b')], { deadline }), [{ kind: 'created' }])
    const deleted = deleting.apply([userDeleted(issuer, 'user_b')], { deadline })
    await settledOrWaiting(statements, deleted)
    await creation.release()
    await both
    t.match(await deleted, [{ kind: 'tombstoned' }])
    t.same(await resurrected(pool), [])
    const { rows } = await pool.query("SELECT FROM users WHERE clerk_user_id = 'user_b'")
    t.equal(rows.length, policy === 'delete' ? 0 : 1)
  })
}

t.test('what is acknowledged outlives a crash of a server whose commits do not wait for the disk', async t => {
  // By itself it would write its log every ten seconds.
  const server = await testServer(t, { synchronous_commit: 'off', wal_writer_delay: '10s' })
  const url = await server.createDatabase()
  const faults = postgresFaults(t, { server, url })
  const pool = poolOn(t, url)
  pool.on('connect', client => { client.on('error', () => {}) })
  await migrate({ pool })
  const deadline = deadlineIn(t, 30_000)
  const [before, since] = [1_700_000_000_000, 1_750_000_000_000]
  const sync = syncOn(pool, { provider: providerOf(() => ({ kind: 'found', profile, version: since })) })
  const seenAt = (version: number): ProfileObserved => observe(issuer, 'user_a', profile, version, true)
  const key = request('user_a').key
  const crash = async (): Promise<void> => {
    const fault = await faults.killCluster()
    await fault.heal()
    await faults.ready()
  }
  const stored = async (): Promise<StoredUser | undefined> => {
    return (await storeOn(pool).find([request('user_a')], deadline)).users.get(key)
  }

  t.match(await sync.apply([seenAt(before)], { deadline, lane: 'webhook' }), [{ kind: 'created' }])
  await crash()
  t.match(await stored(), { version: before }, 'what a webhook made')
  t.match(await one(sync, request('user_a', {}, { force: true }), deadline), { kind: 'active', sync: 'performed' })
  t.match(await sync.apply([seenAt(since)], { deadline, lane: 'webhook' }), [{ kind: 'unchanged' }])
  await crash()
  t.match(await stored(), { version: since }, 'what a login wrote, and a webhook found in step')
  const untilMs = Date.now() + 3_600_000
  t.match(await sync.apply([sessionEnded(issuer, 'user_a', 'sess_1', untilMs)], { deadline }), [{ kind: 'updated' }])
  await crash()
  t.match(await stored(), { revokedSessions: ['sess_1'] }, 'the end of a session')
  t.match(await sync.apply([userDeleted(issuer, 'user_a')], { deadline }), [{ kind: 'tombstoned' }])
  await crash()
  t.match(await stored(), { deleted: true }, 'a deletion')
  const letter = { lane: 'webhook', issuer, subject: null, received: Buffer.from('{'), reason: 'no JSON' } as const
  await sync.deadLetter(letter, deadline)
  await crash()
  t.equal((await pool.query('SELECT FROM sync_dead_letters')).rowCount, 1, 'a dead letter')
})
