import { setImmediate } from 'node:timers/promises'
import { ManualClock } from '@orientor/test-kit'
import { sessionKey, sessionKeyHash, type SessionKeyHash, type UserChange } from '@orientor/session-contract/core'
import fc from 'fast-check'
import t from 'tap'
import { gapBetween, seesAllOf, snapshotOf, type Snapshot } from '../src/coherence/snapshot.js'
import { PolledTrust, PollFailure, type Finding, type PollAnswer, type PolledTrustParts } from '../src/coherence/polled-trust.js'

const times = { pollIntervalMs: 200, pollTimeoutMs: 2000, maxStalenessMs: 5000 }
const keys = Array.from({ length: 3 }, (_, index) => sessionKeyHash(sessionKey('https://issuer.test', `user-${index}`)))

/** Lets what has been settled be heard: promises only, no time passes. */
async function heard (): Promise<void> {
  for (let turn = 0; turn < 4; turn++) await null
}

interface Ask {
  readonly position: string | null
  readonly answer: (answer: Partial<PollAnswer>) => Promise<void>
  readonly fail: (error: Error) => Promise<void>
}

function setup (parts: Partial<PolledTrustParts> = {}): { clock: ManualClock, trust: PolledTrust, asks: Ask[], applied: UserChange[], phases: string[], last: () => Ask } {
  const clock = new ManualClock()
  const asks: Ask[] = []
  const applied: UserChange[] = []
  const phases: string[] = []
  const trust = new PolledTrust({
    ...times,
    clock,
    ask: position => new Promise((resolve, reject) => {
      asks.push({
        position,
        answer: async answer => {
          resolve({ position: `p${asks.length}`, changes: [], gap: null, finding: { signature: 'a' }, marks: null, ...answer })
          await heard()
        },
        fail: async error => {
          reject(error)
          await heard()
        }
      })
    }),
    apply: change => { applied.push(change) },
    changed: ({ phase }) => { phases.push(phase) },
    ...parts
  })
  return { clock, trust, asks, applied, phases, last: () => asks.at(-1)! }
}

async function trusted (): Promise<ReturnType<typeof setup>> {
  const bundle = setup()
  bundle.trust.start()
  await bundle.last().answer({})
  return bundle
}

t.test('a polled trust', async t => {
  t.test('proves the instant of sending by the first answer, which begins the epoch, and by each that goes on from it', async t => {
    const { clock, trust, asks, last, phases } = setup()
    trust.start()
    trust.start()
    t.equal(trust.epoch, 0)
    t.equal(trust.provenAtMs, -Infinity)
    t.equal(trust.lastProofOf(0), null)
    const sentAtMs = clock.monotonic()
    clock.advance(10)
    await last().answer({ position: 'first', marks: new Set(['m']) })
    t.match(trust, { epoch: 1, provenAtMs: sentAtMs })
    t.strictSame(['m', 'n', undefined].map(mark => trust.covers(mark)), [true, false, true])
    clock.advance(189)
    t.equal(asks.length, 1)
    clock.advance(1)
    t.equal(last().position, 'first')
    const nextAtMs = clock.monotonic()
    clock.advance(30)
    await last().answer({})
    t.match(trust, { epoch: 1, provenAtMs: nextAtMs, provenWallMs: clock.now() - 30 })
    t.strictSame(phases, ['trusted', 'trusted'])
  })

  t.test('applies changes before it proves anything', async t => {
    const proofs: number[] = []
    const { clock, trust, last } = setup({ apply: () => { proofs.push(trust.provenAtMs) } })
    trust.start()
    await last().answer({})
    clock.advance(200)
    await last().answer({ changes: [{ kind: 'all' }, { kind: 'user', keyHash: keys[0]!, revision: 4 }] })
    t.strictSame(proofs, [0, 0].map(() => trust.provenAtMs - 200))
  })

  for (const [title, answer, epoch] of [
    ['goes on from the last', {}, 1], ['has a gap', { gap: 'slept' }, 2], ['finds another signature', { finding: { signature: 'b' } }, 2], ['finds a flaw', { finding: { flaw: 'missing' } }, 1]
  ] as const) {
    t.test(`applies the changes of an answer that ${title} ${title.startsWith('goes') ? 'with' : 'without'} their revisions`, async t => {
      const { clock, trust, applied, last } = await trusted()
      clock.advance(200)
      await last().answer({ changes: [{ kind: 'user', keyHash: keys[0]!, revision: 4 }, { kind: 'all' }], ...answer })
      t.equal(trust.epoch, epoch)
      t.strictSame(applied, [{ kind: 'user', keyHash: keys[0]!, revision: title.startsWith('goes') ? 4 : null }, { kind: 'all' }])
    })
  }

  t.test('covers what was read where the answers were, until an epoch begins that has other marks', async t => {
    const { clock, trust, last } = setup()
    const covered = (): boolean[] => [undefined, 'here', 'there', ''].map(mark => trust.covers(mark))
    t.strictSame(covered(), [true, true, true, true], 'before the first answer nothing is known to compare with')
    trust.start()
    await last().answer({ marks: new Set(['here', 'here too']) })
    t.strictSame(covered(), [true, true, false, false])
    clock.advance(200)
    await last().answer({ marks: new Set(['here', 'here too']), finding: { flaw: 'missing' } })
    t.strictSame(covered(), [true, true, false, false])
    clock.advance(200)
    await last().answer({ marks: new Set(['there']) })
    t.strictSame(covered(), [true, false, true, false])
    clock.advance(200)
    await last().answer({ marks: null, gap: 'slept' })
    t.strictSame(covered(), [true, true, true, true])
    clock.advance(200)
    await last().answer({ marks: new Set(), gap: 'slept' })
    t.strictSame(covered(), [true, false, false, false])
  })

  t.test('does not read an answer that is late, and asks again from the same position', async t => {
    const { clock, trust, asks, last } = await trusted()
    const { provenAtMs } = trust
    clock.advance(200)
    const late = last()
    clock.advance(2000)
    t.match(trust.state, { phase: 'waiting', reason: 'A poll was not answered within 2000 ms' })
    await late.answer({ position: 'late' })
    t.equal(trust.provenAtMs, provenAtMs)
    clock.advance(0)
    t.equal(asks.length, 3)
    t.equal(last().position, 'p1')
    await last().answer({})
    t.match(trust, { epoch: 1, state: { phase: 'trusted' } })
  })

  t.test('goes on in the same epoch after polls that failed, each told in its own words', async t => {
    const { clock, trust, last } = await trusted()
    clock.advance(200)
    await last().fail(new PollFailure('The server is a standby'))
    t.match(trust.state, { phase: 'waiting', reason: 'The server is a standby' })
    clock.advance(200)
    await last().fail(new Error('password of postgres://user:secret@host'))
    t.equal(trust.state.reason, 'The database could not be asked')
    clock.advance(200)
    await last().answer({})
    t.equal(trust.epoch, 1)
  })

  for (const [title, answer] of [['changes were removed', { gap: 'slept' }], ['what announces was absent', { finding: { signature: 'b' } }]] as const) {
    t.test(`begins an epoch when ${title}, and remembers the proof of the last`, async t => {
      const { clock, trust, last } = await trusted()
      const { provenAtMs } = trust
      clock.advance(200)
      await last().answer(answer)
      t.equal(trust.epoch, 2)
      t.equal(trust.provenAtMs, clock.monotonic())
      t.equal(trust.lastProofOf(1)?.monotonicMs, provenAtMs)
    })
  }

  t.test('proves nothing while what announces is not in order, and begins anew after that whatever the signature', async t => {
    const { clock, trust, last, applied } = await trusted()
    const { provenAtMs } = trust
    clock.advance(200)
    await last().answer({ finding: { flaw: 'A trigger is missing' }, changes: [{ kind: 'all' }] })
    t.match(trust, { epoch: 1, provenAtMs, state: { phase: 'doubtful', reason: 'A trigger is missing' } })
    t.strictSame(applied, [{ kind: 'all' }])
    clock.advance(200)
    t.equal(last().position, null)
    await last().answer({})
    t.equal(trust.epoch, 2)
  })

  t.test('proves a poll once what announces was found as it was after it, also by a later answer', async t => {
    const { clock, trust, last } = setup()
    trust.start()
    const polls: Array<{ readonly position: string, readonly sentAtMs: number }> = []
    const answer = async (found: string): Promise<void> => {
      const position = String(polls.length)
      polls.push({ position, sentAtMs: clock.monotonic() })
      await last().answer({ position, isFoundAfter: of => Number(of) < Number(found) })
      clock.advance(200)
    }
    await answer('0')
    t.match(trust, { epoch: 1, provenAtMs: -Infinity, state: { phase: 'trusted' } })
    await answer('0')
    await answer('2')
    t.equal(trust.provenAtMs, polls[1]!.sentAtMs)
    await answer('2')
    t.equal(trust.provenAtMs, polls[1]!.sentAtMs)
    await answer('5')
    t.equal(trust.provenAtMs, polls[4]!.sentAtMs)
    await last().answer({ position: '5', finding: { signature: 'b' }, isFoundAfter: () => false })
    t.match(trust, { epoch: 2, provenAtMs: -Infinity })
    t.equal(trust.lastProofOf(1)?.monotonicMs, polls[4]!.sentAtMs)
  })

  t.test('polls at once when hurried, and after the poll on its way when there is one', async t => {
    const { clock, trust, asks, last } = await trusted()
    trust.hurry()
    t.equal(asks.length, 2)
    trust.hurry()
    t.equal(asks.length, 2)
    await last().answer({})
    clock.advance(0)
    t.equal(asks.length, 3)
    await last().answer({})
    clock.advance(199)
    t.equal(asks.length, 3)
    const idle = setup()
    idle.trust.hurry()
    t.equal(idle.asks.length, 0)
  })

  t.test('remembers the last proof of no more than 64 epochs', async t => {
    const { clock, trust, last } = await trusted()
    for (let epoch = 2; epoch <= 100; epoch++) {
      clock.advance(200)
      await last().answer({ gap: 'again' })
    }
    t.equal(trust.lastProofOf(35), null)
    t.not(trust.lastProofOf(36), null)
  })

  t.test('polls no more when it is closed', async t => {
    const { clock, trust, asks, last } = await trusted()
    const { provenAtMs } = trust
    clock.advance(200)
    trust.close()
    await last().answer({})
    trust.hurry()
    trust.start()
    clock.advance(60_000)
    t.equal(asks.length, 2)
    t.equal(clock.pendingTimers, 0)
    t.match(trust, { provenAtMs, state: { phase: 'closed' } })
  })
})

t.test('a snapshot is read as PostgreSQL writes it, and nothing else is one', async t => {
  t.strictSame(snapshotOf('10:20:10,14,15'), { xmin: 10n, xmax: 20n, xip: [10n, 14n, 15n] })
  t.strictSame(snapshotOf('10:10:'), { xmin: 10n, xmax: 10n, xip: [] })
  const seen = (one: string, other: string): boolean => seesAllOf(snapshotOf(one)!, snapshotOf(other)!)
  t.strictSame([['10:20:10', '10:20:10'], ['10:20:10', '10:20:10,11'], ['15:30:15', '10:20:10,15'], ['20:30:25', '10:20:10']].map(([one, other]) => seen(one!, other!)), [true, true, true, true])
  t.strictSame([['10:20:10', '20:20:'], ['10:20:10', '11:20:11'], ['10:20:10', '21:21:'], ['15:30:15', '10:20:10']].map(([one, other]) => seen(one!, other!)), [false, false, false, false])
  for (const text of ['', '10:20', '10:20:,', 'a:b:', '10:20:1,', '-1:2:']) t.equal(snapshotOf(text), null)
})

t.test('an answer has a gap where time went back, and where changes were removed that were not read', async t => {
  const gap = (asked: string, read: string, removed: string): string | null => gapBetween(snapshotOf(asked)!, snapshotOf(read)!, snapshotOf(removed)!)
  t.equal(gap('10:20:10', '10:25:10', '10:20:10'), null)
  t.equal(gap('10:20:10', '22:25:22', '15:15:10'), null, 'a transaction stayed open across the prune')
  t.match(gap('10:20:10', '10:18:10', '5:5:'), /gone back in time/)
  t.match(gap('20:20:', '15:25:15', '5:5:'), /gone back in time/, 'it is open again')
  t.match(gap('10:20:10', '30:30:', '15:15:'), /removed/, 'it has ended, and its changes are removed')
  t.match(gap('10:20:', '30:30:', '21:21:'), /removed/)
})

/** The faults of a design. */
type Flaw = 'none' | 'no xip' | 'above xmax' | 'floor by xmax' | 'swallowed insert' | 'no mark' | 'digest ignored' | 'own xid' | 'leftover snapshot' | 'standby' | 'order by xid' | 'row security' | 'survey of any age'

interface Row { readonly xid: number, readonly key: number | null, readonly revision: number | null }
interface Write { readonly key: number, readonly kind: 'update' | 'delete' }
interface Transaction { readonly xid: number, readonly writes: Write[], readonly rows: Row[], status: 'open' | 'committed', atMs: number, isFlushed: boolean }
/** One committed change of one user, by order of commits. */
interface Version { readonly xid: number, readonly key: number, readonly revision: number, readonly atMs: number, lostAtMs: number | null }
interface Seen { readonly epoch: number, readonly key: number, readonly versions: ReadonlySet<Version>, readonly revision: number, readonly mark: string }
interface Flight { readonly key: number, readonly epoch: number, floor: number, read: Seen | null }

/**
 * A database with three users, PostgreSQL's rules of visibility, and an instance that caches them. Every edge that is asynchronous in life is a step of its own.
 */
class World {
  readonly clock = new ManualClock()
  readonly trust: PolledTrust
  readonly flaw: Flaw
  nextXid = 100
  transactions: Transaction[] = []
  versions: Version[] = []
  outbox: Row[] = []
  /** The snapshots by which a prune has removed notes, and by which the next one will. */
  removed: Snapshot
  taken: Snapshot
  /** The finding of the triggers, for all instances, and in which snapshot; null: none since the server started. */
  survey: { readonly finding: Finding, readonly seen: Snapshot } | null = null
  readonly isSurveyed: boolean
  token = 1
  catalogue = 1
  triggers = true
  leftover: { readonly snapshot: Snapshot, readonly outbox: readonly Row[], readonly removed: Snapshot } | null = null
  ownXid: Transaction | null = null
  isStandby = false
  entries: Seen[] = []
  flights: Flight[] = []
  pending: Array<{ position: string | null, resolve: (answer: PollAnswer) => void, reject: (error: Error) => void, answer: PollAnswer | Error | null }> = []

  constructor (flaw: Flaw, isSurveyed: boolean) {
    this.flaw = flaw
    this.isSurveyed = isSurveyed
    this.removed = this.taken = this.snapshot()
    this.trust = new PolledTrust({
      ...times,
      clock: this.clock,
      ask: position => new Promise((resolve, reject) => { this.pending.push({ position, resolve, reject, answer: null }) }),
      apply: change => { this.apply(change) }
    })
    this.trust.start()
  }

  get mark (): string {
    return this.flaw === 'no mark' ? 'any' : String(this.token)
  }

  snapshot (): Snapshot {
    const xip = this.transactions.filter(({ status }) => status === 'open').map(({ xid }) => BigInt(xid)).sort((a, b) => a < b ? -1 : 1)
    const xmax = BigInt(this.nextXid)
    return { xmin: xip[0] ?? xmax, xmax, xip }
  }

  begin (): void {
    if (this.transactions.filter(({ status }) => status === 'open').length < 3) this.transactions.push({ xid: this.nextXid++, writes: [], rows: [], status: 'open', atMs: NaN, isFlushed: false })
  }

  /** One of the open transactions writes a user, unless another open one has written that user: it would wait. */
  write (which: number, key: number, kind: Write['kind']): void {
    const open = this.transactions.filter(({ status }) => status === 'open')
    const transaction = open[which % Math.max(1, open.length)]
    if (transaction === undefined || open.some(other => other !== transaction && other.writes.some(write => write.key === key))) return
    if (transaction.writes.some(write => write.key === key)) return
    transaction.writes.push({ key, kind })
    if (!this.triggers || (this.flaw === 'swallowed insert' && key === 2)) return
    const revision = kind === 'delete' ? null : this.revisionOf(key) + 1
    transaction.rows.push({ xid: transaction.xid, key, revision })
  }

  revisionOf (key: number): number {
    return this.versions.filter(version => version.key === key && version.lostAtMs === null).at(-1)?.revision ?? 0
  }

  commit (which: number): void {
    const open = this.transactions.filter(({ status }) => status === 'open')
    const transaction = open[which % Math.max(1, open.length)]
    if (transaction === undefined || transaction === this.ownXid) return
    this.finish(transaction)
  }

  finish (transaction: Transaction): void {
    transaction.status = 'committed'
    transaction.atMs = this.clock.monotonic()
    for (const { key, kind } of transaction.writes) this.versions.push({ xid: transaction.xid, key, revision: kind === 'delete' ? 0 : this.revisionOf(key) + 1, atMs: transaction.atMs, lostAtMs: null })
    this.outbox.push(...transaction.rows)
    // Nothing of the next instant happens in this one.
    this.clock.advance(1)
  }

  /** SIGKILL of a backend: what was not flushed is gone, and its ids are given out again. */
  crash (): void {
    const lost = this.transactions.filter(({ status, isFlushed }) => status === 'open' || !isFlushed)
    this.transactions = this.transactions.filter(transaction => !lost.includes(transaction))
    for (const version of this.versions) if (version.lostAtMs === null && lost.some(({ xid }) => xid === version.xid)) version.lostAtMs = this.clock.monotonic()
    this.outbox = this.outbox.filter(({ xid }) => !lost.some(transaction => transaction.xid === xid))
    this.nextXid = Math.min(this.nextXid, ...lost.map(({ xid }) => xid))
    this.ownXid = null
    this.leftover = null
    this.token++
    this.survey = null
    this.removed = this.taken = this.snapshot()
    this.clock.advance(1)
  }

  prune (): void {
    this.outbox = this.outbox.filter(({ xid }) => BigInt(xid) >= this.taken.xmax || this.taken.xip.includes(BigInt(xid)))
    this.removed = this.taken
    this.taken = this.snapshot()
  }

  /** A change of the catalogue is a transaction. */
  alter (): void {
    this.catalogue++
    this.transactions.push({ xid: this.nextXid++, writes: [], rows: [], status: 'committed', atMs: this.clock.monotonic(), isFlushed: true })
  }

  examine (): void {
    this.survey = { finding: this.finding, seen: this.snapshot() }
  }

  get finding (): Finding {
    return this.triggers || this.flaw === 'digest ignored' ? { signature: this.flaw === 'digest ignored' ? 'any' : String(this.catalogue) } : { flaw: 'missing' }
  }

  /** The server reads the answer to the poll on its way, in one snapshot. */
  take (): void {
    const poll = this.pending.find(({ answer }) => answer === null)
    if (poll === undefined) return
    poll.answer = this.read(poll.position)
  }

  read (position: string | null): PollAnswer | Error {
    if (this.leftover !== null && this.flaw !== 'leftover snapshot') return new PollFailure('repeatable read')
    if (this.ownXid !== null && this.flaw !== 'own xid') return new PollFailure('a transaction of its own')
    if (this.isStandby && this.flaw !== 'standby') return new PollFailure('a standby')
    let read = this.leftover?.snapshot ?? this.snapshot()
    const own = this.ownXid === null ? null : BigInt(this.ownXid.xid)
    if (own !== null) read = { ...read, xip: read.xip.filter(xid => xid !== own) }
    const outbox = this.leftover?.outbox ?? this.outbox
    const from = position === null ? null : snapshotOf(position)!
    const isNew = ({ xid }: Row): boolean => {
      if (from === null || this.flaw === 'row security') return false
      const isAhead = this.flaw === 'above xmax' ? BigInt(xid) > from.xmax : BigInt(xid) >= from.xmax
      return BigInt(xid) < read.xmax && (isAhead || (this.flaw !== 'no xip' && from.xip.includes(BigInt(xid))))
    }
    const rows = outbox.filter(isNew)
    const changes = [...new Set(rows.map(({ key }) => key))].map((key): UserChange => {
      const mine = rows.filter(row => row.key === key)
      if (this.flaw === 'order by xid') {
        const last = [...mine].sort((one, other) => one.xid - other.xid).at(-1)!
        return { kind: 'user', keyHash: keys[key!]!, revision: last.revision }
      }
      return { kind: 'user', keyHash: keys[key!]!, revision: mine.some(({ revision }) => revision === null) ? null : Math.max(...mine.map(({ revision }) => revision!)) }
    })
    if (this.isStandby) read = { ...read, xip: [], xmin: read.xmax }
    if (this.isSurveyed && this.survey === null) this.examine()
    const { finding, seen } = this.isSurveyed ? this.survey! : { finding: this.finding, seen: null }
    const removed = this.leftover?.removed ?? this.removed
    const isBlind = this.flaw === 'no mark' || (this.flaw === 'floor by xmax' && from !== null && from.xmax >= removed.xmax)
    return {
      position: `${read.xmin}:${read.xmax}:${read.xip.join(',')}`,
      changes,
      gap: from === null || isBlind ? null : gapBetween(from, read, removed),
      finding: 'flaw' in finding ? finding : { signature: `${finding.signature} ${this.mark}` },
      ...(seen === null || this.flaw === 'survey of any age' ? {} : { isFoundAfter: (position: string) => seesAllOf(seen, snapshotOf(position)!) }),
      marks: new Set([this.mark])
    }
  }

  async answer (): Promise<void> {
    const index = this.pending.findIndex(({ answer }) => answer !== null)
    if (index === -1) return
    const [{ resolve, reject, answer }] = this.pending.splice(index, 1) as [typeof this.pending[number]]
    if (answer instanceof Error) reject(answer)
    else resolve(answer!)
    await heard()
  }

  /** A load reads a user on the primary. */
  look (flight: Flight): void {
    const versions = new Set(this.versions.filter(({ key, lostAtMs }) => key === flight.key && lostAtMs === null))
    flight.read = { epoch: flight.epoch, key: flight.key, versions, revision: this.revisionOf(flight.key), mark: this.mark }
  }

  land (): void {
    const flight = this.flights.find(({ read }) => read !== null)
    if (flight === undefined) return
    this.flights.splice(this.flights.indexOf(flight), 1)
    const read = flight.read!
    if (flight.epoch !== this.trust.epoch || !this.trust.covers(read.mark) || read.revision < flight.floor) return
    this.entries = this.entries.filter(({ key }) => key !== flight.key)
    this.entries.push(read)
  }

  apply (change: UserChange): void {
    const key = change.kind === 'all' ? null : keys.indexOf(change.keyHash as SessionKeyHash)
    const revision = change.kind === 'all' ? Infinity : change.revision ?? Infinity
    this.entries = this.entries.filter(entry => key !== null && (entry.key !== key || (entry.epoch === this.trust.epoch && entry.revision >= revision)))
    for (const flight of this.flights) if (key === null || flight.key === key) flight.floor = Math.max(flight.floor, revision)
  }

  /** The claim of a proof about an entry that is there: it agrees with everything committed before. */
  lie (): string | null {
    for (const { epoch, key, versions } of this.entries) {
      const proof = this.trust.lastProofOf(epoch)
      if (proof === null) continue
      const missed = this.versions.find(version => version.key === key && version.atMs < proof.monotonicMs && version.lostAtMs === null && !versions.has(version))
      if (missed !== undefined) return `epoch ${epoch} is proven until ${proof.monotonicMs}, but what ${missed.xid} committed at ${missed.atMs} was not announced`
      const gone = [...versions].find(version => version.lostAtMs !== null && version.lostAtMs < proof.monotonicMs)
      if (gone !== undefined) return `epoch ${epoch} is proven until ${proof.monotonicMs}, but what ${gone.xid} committed was lost at ${gone.lostAtMs!}`
    }
    return null
  }
}

type Step =
  | 'begin' | 'take' | 'answer' | 'round' | 'land' | 'prune' | 'survey' | 'sleep' | 'crash' | 'flush' | 'drop triggers' | 'restore triggers' | 'blink triggers'
  | 'leave a snapshot' | 'leave a transaction' | 'clean up' | 'promote' | 'fail over'
  | { readonly write: number, readonly key: number, readonly kind: Write['kind'] } | { readonly commit: number } | { readonly depart: number } | { readonly overtake: number } | { readonly look: number } | { readonly advance: number }

async function perform (world: World, step: Step): Promise<void> {
  if (typeof step === 'object') {
    if ('write' in step) world.write(step.write, step.key, step.kind)
    else if ('commit' in step) world.commit(step.commit)
    else if ('depart' in step) {
      if (!world.flights.some(({ key }) => key === step.depart)) world.flights.push({ key: step.depart, epoch: world.trust.epoch, floor: -Infinity, read: null })
    } else if ('overtake' in step) {
      await overtake(world, step.overtake)
    } else if ('look' in step) {
      const flight = world.flights.find(({ key, read }) => key === step.look && read === null)
      if (flight !== undefined) world.look(flight)
    } else {
      world.clock.advance(step.advance)
      await heard()
    }
    return
  }
  switch (step) {
    case 'begin': world.begin(); break
    case 'take': world.take(); break
    case 'answer': await world.answer(); break
    case 'round': world.take(); await world.answer(); break
    case 'land': world.land(); break
    case 'prune': world.prune(); break
    case 'survey': world.examine(); break
    case 'sleep': await sleep(world); break
    case 'flush': for (const transaction of world.transactions) if (transaction.status === 'committed') transaction.isFlushed = true; break
    case 'crash': world.crash(); break
    case 'drop triggers':
    case 'restore triggers':
    case 'blink triggers': {
      // DDL waits for all who have written.
      if (world.transactions.some(({ status, writes }) => status === 'open' && writes.length > 0)) break
      if (step === 'blink triggers') {
        world.alter()
        const blind = world.triggers
        world.triggers = false
        world.begin()
        world.write(world.transactions.filter(({ status }) => status === 'open').length - 1, 0, 'update')
        const last = world.transactions.filter(({ status }) => status === 'open').at(-1)
        if (last !== undefined && last !== world.ownXid) world.finish(last)
        world.triggers = blind
        world.alter()
      } else {
        world.triggers = step === 'restore triggers'
        world.alter()
      }
      break
    }
    case 'leave a snapshot':
      world.leftover ??= { snapshot: world.snapshot(), outbox: [...world.outbox], removed: world.removed }
      break
    case 'leave a transaction':
      if (world.ownXid === null) {
        world.begin()
        world.ownXid = world.transactions.filter(({ status }) => status === 'open').at(-1) ?? null
      }
      break
    case 'clean up':
      world.leftover = null
      if (world.ownXid !== null) {
        const own = world.ownXid
        world.ownXid = null
        world.finish(own)
      }
      break
    case 'promote': world.isStandby = false; break
    case 'fail over': world.isStandby = true
  }
}

/** An older transaction deletes a user whom a younger one has changed and a load has read since. */
async function overtake (world: World, key: number): Promise<void> {
  world.begin()
  world.begin()
  const open = world.transactions.filter(({ status }) => status === 'open')
  const [older, younger] = open.slice(-2)
  if (older === undefined || younger === undefined || older === world.ownXid || younger === world.ownXid) return
  world.write(open.indexOf(younger), key, 'update')
  world.finish(younger)
  for (const step of [{ depart: key }, { look: key }, 'land'] as const) await perform(world, step)
  world.write(world.transactions.filter(({ status }) => status === 'open').indexOf(older), key, 'delete')
  world.finish(older)
}

/** A transaction stays open across a poll, commits, and is pruned before the next one. */
async function sleep (world: World): Promise<void> {
  world.begin()
  const index = world.transactions.filter(({ status }) => status === 'open').length - 1
  world.write(index, 0, 'update')
  world.begin()
  for (const step of [{ depart: 0 }, { look: 0 }, 'land', 'round', { advance: 200 }, 'round', { commit: index }, { commit: index }, 'prune', 'prune', { advance: 200 }] as const) await perform(world, step)
}

/** Steps of a world in which polls and prunes are more or less frequent than what happens in between. */
const stepOf = (polls: number, prunes: number): fc.Arbitrary<Step> => fc.oneof(
  { weight: 10, arbitrary: fc.oneof(fc.constant<Step>('begin'), fc.record({ write: fc.nat(2), key: fc.nat(2), kind: fc.constantFrom<Write['kind']>('update', 'update', 'delete') }), fc.record({ commit: fc.nat(2) })) },
  { weight: 1, arbitrary: fc.record({ overtake: fc.nat(2) }) },
  { weight: 8, arbitrary: fc.oneof(fc.record({ depart: fc.nat(2) }), fc.record({ look: fc.nat(2) }), fc.constant<Step>('land')) },
  { weight: polls, arbitrary: fc.constantFrom<Step>('take', 'answer', 'round', 'round') },
  { weight: prunes, arbitrary: fc.constantFrom<Step>('prune', 'prune', 'sleep') },
  { weight: 3, arbitrary: fc.constant<Step>('survey') },
  { weight: 2, arbitrary: fc.constantFrom<Step>('flush', 'crash') },
  { weight: 2, arbitrary: fc.constantFrom<Step>('drop triggers', 'restore triggers', 'restore triggers', 'blink triggers') },
  { weight: 2, arbitrary: fc.constantFrom<Step>('leave a snapshot', 'leave a transaction', 'clean up', 'clean up', 'fail over', 'promote', 'promote') },
  { weight: 8, arbitrary: fc.record({ advance: fc.constantFrom(1, 200, 200, 200, 2500) }) }
)

const schedule = fc.oneof(...[stepOf(10, 1), stepOf(2, 1), stepOf(6, 6)].map(step => fc.array(step, { minLength: 60, maxLength: 250, size: 'max' })))

async function explore (flaw: Flaw, numRuns: number): Promise<{ proofs: number, lie: string | null }> {
  let proofs = 0
  let found: string | null = null
  try {
    await fc.assert(fc.asyncProperty(schedule, fc.boolean(), async (steps, isSurveyed) => {
      const world = new World(flaw, isSurveyed)
      let { epoch, provenAtMs } = world.trust
      for (const step of steps) {
        await perform(world, step)
        const lie = world.lie()
        if (lie !== null) throw new Error(lie)
        const { trust } = world
        if (trust.epoch < epoch) throw new Error('an epoch came back')
        if (trust.epoch === epoch && trust.provenAtMs < provenAtMs) throw new Error('a proof was taken back')
        if (trust.provenAtMs > world.clock.monotonic()) throw new Error('a proof of the future')
        if (trust.provenAtMs > provenAtMs) proofs++
        ;({ epoch, provenAtMs } = trust)
      }
    }), { numRuns, endOnFailure: flaw !== 'none', verbose: 0 })
  } catch (error) {
    found = (error as Error).message
  }
  return { proofs, lie: found }
}

t.test('whatever happens, in whatever order, a proof holds', async t => {
  const { proofs, lie } = await explore('none', 2000)
  t.equal(lie, null)
  t.ok(proofs > 2000, `${proofs} proofs were judged`)
})

for (const flaw of ['no xip', 'above xmax', 'floor by xmax', 'swallowed insert', 'no mark', 'digest ignored', 'own xid', 'leftover snapshot', 'standby', 'order by xid', 'row security', 'survey of any age'] as const) {
  t.test(`the model flags a design with this flaw: ${flaw}`, async t => {
    // It ends with the first lie: one flaw in a thousand schedules shows.
    const { lie } = await explore(flaw, 20_000)
    t.not(lie, null)
    await setImmediate()
  })
}
