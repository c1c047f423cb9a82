import { setTimeout as pause } from 'node:timers/promises'
import { postgresFaults, testServer } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../src/migrate.js'
import type { DeletionPolicy } from '../src/user-store.js'
import { expectedUsers, judge, readHoldings, type Judgement } from '../test/fixtures/expected-users.js'
import { issuer } from '../test/fixtures/on-postgres.js'
import { otherSecret, secret } from '../test/fixtures/webhooks.js'
import { makeWorld, randomOf, redelivered, refusedName, shuffled } from '../test/fixtures/world.js'
import { startApps } from './fixtures/app-process.js'
import { Chaos } from './fixtures/chaos.js'
import { Sender } from './fixtures/sender.js'

const seed = Number(process.env['ORIENTOR_SEED'] ?? Math.trunc(Math.random() * 2 ** 31))
const events = Number(process.env['ORIENTOR_EVENTS'] ?? 10_000)
const size = { users: 500, events, twiceRatio: 0.3, giveUpRatio: 0.02 }
/** The pace of the sender: the storm is to last as long as a few rounds of faults. */
const perSecond = 160
const compareEveryMs = 400
/** The part of the events that comes in batches, too. */
const comparedRatio = 0.2
const batchSize = 60
const markEveryMs = 100
const none: Judgement = { lost: [], stale: [], resurrected: [], orderDependent: [] }
let unhandled = 0
process.on('unhandledRejection', () => { unhandled++ })

/** The settings of the server. Where commits do not wait for the disk, an instance must ask that its own do. */
const storms: ReadonlyArray<readonly [DeletionPolicy, Readonly<Record<string, string>>]> = [
  ['deactivate', {}], ['delete', { synchronous_commit: 'off' }]
]

for (const [policy, parameters] of storms) {
  const how = [policy, ...Object.entries(parameters).map(([name, value]) => `${name} = ${value}`)].join(', ')
  const title = `${size.events} events of ${size.users} users, while the database and the app are killed: no ` +
    `acknowledged event is lost, no row is stale, resurrected, or a matter of the order (${how})`
  t.test(title, { timeout: 300_000 }, async t => { await storm(t, policy, parameters) })
}

async function storm (t: Test, policy: DeletionPolicy, parameters: Readonly<Record<string, string>>): Promise<void> {
  const server = await testServer(t, { deadlock_timeout: '100ms', ...parameters })
  const url = await server.createDatabase()
  const faults = postgresFaults(t, { server, url })
  // What the app writes of its own is to be there after a crash as well.
  const waiting = '-c synchronous_commit=on'
  const pool = new pg.Pool({ connectionString: url, max: 4, connectionTimeoutMillis: 3000, options: waiting })
  pool.on('error', () => {})
  pool.on('connect', client => { client.on('error', () => {}) })
  t.teardown(async () => { await pool.end() })
  await migrate({ pool })
  await pool.query(`ALTER TABLE users ADD CONSTRAINT app_name CHECK (first_name <> '${refusedName}')`)

  const random = randomOf(seed)
  const baseMs = Date.now() - 3_600_000
  const { users, events: count } = size
  const world = makeWorld(seed, users, count, baseMs)
  const secrets = [secret, otherSecret]
  const options = { url, secrets, deletionPolicy: policy, world: { seed, users, events: count, baseMs } }
  const apps = await startApps(t, 2, options)
  const sender = new Sender({ events: world.events, bases: apps.map(({ base }) => base), secrets, random, perSecond })
  const chaos = new Chaos({ faults, server, url, apps, subjects: world.subjects, random })

  const mine = world.subjects.filter((_, place) => place % 5 === 0)
  const before = mine.slice(0, mine.length / 2)
  const marked = new Set(before)
  await pool.query(`INSERT INTO users (issuer, clerk_user_id, is_active, onboarding_completed)
    SELECT $1, s, false, true FROM unnest($2::text[]) AS s`, [issuer, before])

  const over = new AbortController()
  /** The app writes its own columns. */
  async function marking (): Promise<void> {
    while (!over.signal.aborted) {
      const subject = mine[Math.floor(random() * mine.length)]!
      const result = await pool.query(`UPDATE users SET is_active = false, onboarding_completed = true
        WHERE clerk_user_id = $1 RETURNING 1`, [subject]).catch(() => null)
      if (result?.rowCount === 1) marked.add(subject)
      await pause(markEveryMs)
    }
  }
  // Only a part of the events comes this way, too: what is lost of a webhook must not be mended by it.
  const compared = shuffled([...world.events.keys()], random).slice(0, count * comparedRatio)
  async function comparing (): Promise<void> {
    while (!over.signal.aborted) {
      const places = Array.from({ length: batchSize }, () => compared[Math.floor(random() * compared.length)]!)
      await sender.compare(places)
      await pause(random() * compareEveryMs)
    }
  }
  const looks: Judgement[] = []
  /** What was acknowledged before a look is there at the look, though nothing is quiet. */
  async function look (): Promise<Judgement> {
    const acknowledged = [...sender.acknowledged]
    const nowMs = Date.now()
    const client = new pg.Client({ connectionString: url, application_name: 'faults' })
    await client.connect()
    const holdings = await readHoldings(client)
    await client.end()
    return judge(holdings, { acknowledged, sent: sender.sent, removes: policy === 'delete', nowMs })
  }

  const startedMs = performance.now()
  const order = redelivered(world.events, random, size.twiceRatio)
  const sending = sender.send(order, size.giveUpRatio).then(() => { over.abort() })
  const beside = [marking(), comparing(), comparing()]
  let rounds = 0
  while (!over.signal.aborted) {
    for (const strike of chaos.round()) {
      if (over.signal.aborted) break
      await strike()
      looks.push(await look())
      await pause(random() * 500)
    }
    rounds++
  }
  await Promise.all([sending, ...beside])
  const lastedMs = performance.now() - startedMs
  const last = await look()

  const { rows: unmarked } = await pool.query(`SELECT clerk_user_id FROM users
    WHERE clerk_user_id = ANY ($1) AND NOT (is_active = false AND onboarding_completed = true)`, [[...marked]])
  const wrongLogins = await logins(apps[0]!.base, world.subjects, sender, marked)
  const sent = sender.counts()
  const sum = (kind: keyof Judgement): number => new Set([...looks, last].flatMap(judgement => judgement[kind])).size
  const broken = Object.fromEntries(Object.keys(none).map(kind => [kind, sum(kind as keyof Judgement)]))
  const { clusterKills, sessionKills, restarts, terminated, appKills } = chaos.counts
  const { oppositeTransactions, oppositeVictims } = chaos.counts
  const deadlocks = chaos.deadlocks()
  t.comment(JSON.stringify({
    injected: `${clusterKills} clusters killed, ${sessionKills} sessions killed, ${restarts} restarts, ` +
      `${terminated} sessions ended, ${appKills} instances killed, ${deadlocks} deadlocks (${oppositeVictims} lost ` +
      `by the ${oppositeTransactions} opposite transactions); of the events ${told(world.census)}`,
    seen: `${sent.attempts} webhooks in ${Math.round(lastedMs / 1000)} s: ${sent.unanswered} unanswered, ` +
      `${sent.notStored} answered 503, ${sent.givenUp} given up, the others 2xx; ${sent.compared} batches of ` +
      `${batchSize} stored, ${sent.notCompared} not; ${sender.acknowledged.size} of ${count} events acknowledged; ` +
      `seed ${seed}`,
    reached: `${JSON.stringify(broken)} in ${looks.length + 1} looks; ${unmarked.length} of ${marked.size} users ` +
      `lost what the app wrote; ${wrongLogins.length} of ${users} logins wrong`
  }))

  t.strictSame(last, none)
  const wrong = looks.filter(judgement => Object.values(judgement).some(({ length }) => length > 0))
  t.strictSame(wrong.slice(0, 1), [], `${wrong.length} looks of ${looks.length} found something`)
  t.strictSame(unmarked, [], 'is_active and onboarding_completed are as the app wrote them')
  t.strictSame(wrongLogins, [])
  t.strictSame(sent.unexpected, [], 'nothing but 2xx and 503')
  t.strictSame(apps.map(({ crashes }) => crashes), [0, 0], 'no instance ended by itself')
  t.equal(unhandled, 0)
  // The faults were there, and bit.
  const { unanswered, notStored } = sent
  for (const [name, times] of Object.entries({ ...chaos.counts, deadlocks, unanswered, notStored })) {
    t.ok(times > 0, `${name}: ${times}`)
  }
  t.ok(deadlocks > oppositeVictims, 'some deadlocks were lost by a batch')
  t.ok(sender.acknowledged.size > 0.95 * count && marked.size > before.length && rounds > 0)
}

/** The users who are not let in or kept out as the events say, each with the answer. */
async function logins (
  base: string, subjects: readonly string[], { acknowledged, sent }: Sender, marked: ReadonlySet<string>
): Promise<readonly string[]> {
  const expected = expectedUsers(acknowledged, Date.now())
  const unsure = new Set([...sent].filter(event => !acknowledged.has(event)).map(({ subject }) => subject))
  const wrong: string[] = []
  for (const subject of subjects.filter(subject => !unsure.has(subject))) {
    const { status } = await fetch(`${base}/me`, { headers: { 'x-user': subject } })
    const { isDeleted, user } = expected.get(subject) ?? { isDeleted: false, user: null }
    const wanted = isDeleted ? 401 : marked.has(subject) || user?.banned === true ? 403 : 200
    if (status !== wanted) wrong.push(`${subject}: ${status} instead of ${wanted}`)
  }
  return wrong
}

function told (census: Readonly<Record<string, number>>): string {
  return Object.entries(census).map(([kind, count]) => `${kind} ${count}`).join(', ')
}
