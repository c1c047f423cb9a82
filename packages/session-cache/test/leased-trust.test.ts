import { ManualClock } from '@orientor/test-kit'
import fc from 'fast-check'
import t from 'tap'
import { LeasedTrust, type Finding, type LeaseParts, type LineReports } from '../src/core.js'

const times = { heartbeatIntervalMs: 1000, heartbeatTimeoutMs: 2000, maxStalenessMs: 5000 }
const inOrder: Finding = { signature: 'a' }

/** A line that a test answers by hand. */
class HandLine {
  readonly reports: LineReports
  readonly beats: number[] = []
  readonly unread: Array<() => void> = []
  isOpen = false
  isCut = false

  constructor (reports: LineReports) {
    this.reports = reports
  }

  open (): void { this.isOpen = true }
  beat (n: number): void { this.beats.push(n) }
  cut (): void { this.isCut = true }
  whenRead (callback: () => void): void { this.unread.push(callback) }

  get last (): number {
    return this.beats.at(-1)!
  }

  /** The server takes the last heartbeat and echoes it. */
  answer (finding: Finding = inOrder): void {
    const { last } = this
    this.reports.taken(last, finding)
    this.reports.echo(last)
  }

  /** Everything that had arrived is read. */
  read (): void {
    for (const callback of this.unread.splice(0)) callback()
  }
}

function setup (parts: Partial<LeaseParts> = {}): { clock: ManualClock, lease: LeasedTrust, lines: HandLine[], line: () => HandLine, phases: string[] } {
  const clock = new ManualClock()
  const lines: HandLine[] = []
  const phases: string[] = []
  const lease = new LeasedTrust({
    ...times,
    clock,
    random: () => 0,
    dial: reports => {
      const line = new HandLine(reports)
      lines.push(line)
      return line
    },
    changed: ({ phase }) => { phases.push(phase) },
    ...parts
  })
  return { clock, lease, lines, line: () => lines.at(-1)!, phases }
}

/** The same, trusted. */
function trusted (parts: Partial<LeaseParts> = {}): ReturnType<typeof setup> {
  const bundle = setup(parts)
  bundle.lease.start()
  bundle.line().reports.up()
  bundle.line().answer()
  bundle.line().answer()
  return bundle
}

t.test('An attempt that cannot even be prepared is one that failed, and the next comes', t => {
  let attempts = 0
  const { clock, lease } = setup({
    dial: reports => {
      if (++attempts < 3) throw new Error('ENOENT: no such file, open /etc/ssl/secret.pem')
      return new HandLine(reports)
    }
  })
  lease.start()
  t.strictSame(lease.state, { phase: 'waiting', reason: 'A connection could not be prepared' })
  clock.advance(1000)
  t.equal(attempts, 3)
  t.equal(lease.state.phase, 'connecting')
  lease.close()
  t.end()
})

t.test('a lease', async t => {
  t.test('proves nothing by the heartbeat that begins an epoch, and by the next one that everything before it was announced', async t => {
    const { clock, lease, line, phases } = setup()
    lease.start()
    clock.advance(100)
    line().reports.up()
    t.equal(lease.epoch, 0)
    clock.advance(10)
    line().answer()
    t.equal(lease.epoch, 1)
    t.equal(lease.provenAtMs, -Infinity)
    t.equal(lease.lastProofOf(1), null)
    const sentAtMs = clock.monotonic()
    clock.advance(10)
    line().answer()
    t.equal(lease.provenAtMs, sentAtMs)
    t.equal(lease.provenWallMs, clock.now() - 10)
    t.same(phases, ['connecting', 'proving', 'proving', 'trusted'])
  })

  t.test('sends a heartbeat per interval, and the next one not before the last came back', async t => {
    const { clock, line } = trusted()
    t.same(line().beats, [1, 2])
    clock.advance(999)
    t.same(line().beats, [1, 2])
    clock.advance(1)
    t.same(line().beats, [1, 2, 3])
    clock.advance(1500)
    t.same(line().beats, [1, 2, 3])
    line().answer()
    clock.advance(0)
    t.same(line().beats, [1, 2, 3, 4])
  })

  for (const [title, half] of [['echo', (line: HandLine) => { line.reports.echo(line.last) }], ['answer', (line: HandLine) => { line.reports.taken(line.last, inOrder) }]] as const) {
    t.test(`proves nothing by an ${title} alone, and cuts the line in the end`, async t => {
      const { clock, lease, lines, line } = trusted()
      const { provenAtMs } = lease
      clock.advance(1000)
      half(line())
      t.equal(lease.provenAtMs, provenAtMs)
      clock.advance(2000)
      line().read()
      t.ok(lines[0]!.isCut)
      t.equal(lease.state.phase, 'waiting')
      t.equal(lease.provenAtMs, provenAtMs)
    })
  }

  t.test('takes echo and answer in either order', async t => {
    const { clock, lease, line } = trusted()
    clock.advance(1000)
    line().reports.echo(line().last)
    line().reports.taken(line().last, inOrder)
    t.equal(lease.provenAtMs, clock.monotonic())
  })

  t.test('takes no echo of another heartbeat for the one that is on its way', async t => {
    const { clock, lease, line } = trusted()
    const { provenAtMs } = lease
    clock.advance(1000)
    for (const n of [line().last - 1, line().last + 1, NaN]) {
      line().reports.echo(n)
      line().reports.taken(n, inOrder)
    }
    line().reports.taken(line().last, inOrder)
    t.equal(lease.provenAtMs, provenAtMs)
    line().reports.echo(line().last)
    t.equal(lease.provenAtMs, clock.monotonic())
    clock.advance(1000)
    line().reports.echo(line().last)
    line().reports.taken(line().last - 1, inOrder)
    t.not(lease.provenAtMs, clock.monotonic(), 'nor the answer to another')
  })

  t.test('ignores whatever a line reports after it was cut', async t => {
    const { clock, lease, lines, line } = trusted()
    clock.advance(1000)
    const late = line()
    clock.advance(2000)
    late.read()
    const { provenAtMs } = lease
    late.answer()
    late.reports.up()
    late.reports.down('late')
    t.equal(lease.provenAtMs, provenAtMs)
    clock.advance(50)
    t.equal(lines.length, 2)
    late.answer()
    late.reports.down('late')
    t.equal(lease.state.phase, 'connecting')
  })

  t.test('does not cut a line whose echo lies in the socket when a stalled event loop comes back', async t => {
    const { clock, lease, lines, line } = trusted()
    clock.advance(1000)
    clock.advance(3000) // the timer is due, the socket not read yet
    t.equal(line().unread.length, 1)
    line().answer()
    line().read()
    t.equal(lines.length, 1)
    t.equal(lease.state.phase, 'trusted')
  })

  t.test('does not judge a later heartbeat by the silence of an earlier one', async t => {
    const { clock, lease, lines, line } = trusted()
    clock.advance(3000)
    line().answer()
    clock.advance(0) // the next one is due at once
    line().read()
    t.equal(lines.length, 1)
    t.equal(lease.state.phase, 'trusted')
  })

  t.test('cuts a connection that is not made in time', async t => {
    const { clock, lines, line, lease } = setup()
    lease.start()
    clock.advance(2000)
    line().read()
    t.ok(lines[0]!.isCut)
    t.match(lease.state, { phase: 'waiting', reason: 'No connection within 2000 ms' })
  })

  t.test('does not trust while what announces is not in order, and keeps what was proven', async t => {
    const { clock, lease, line } = trusted()
    const { provenAtMs } = lease
    clock.advance(1000)
    line().answer({ flaw: 'A trigger is missing' })
    t.match(lease.state, { phase: 'doubtful', reason: 'A trigger is missing' })
    t.equal(lease.provenAtMs, provenAtMs)
    t.equal(lease.epoch, 1)
    clock.advance(1000)
    line().answer({ signature: 'b' })
    t.equal(lease.epoch, 2)
    t.equal(lease.provenAtMs, -Infinity)
    t.same(lease.lastProofOf(1)?.monotonicMs, provenAtMs)
    line().answer({ signature: 'b' })
    t.equal(lease.state.phase, 'trusted')
  })

  t.test('begins an epoch when what announces was absent in between', async t => {
    const { clock, lease, line } = trusted()
    clock.advance(1000)
    line().answer({ signature: 'b' })
    t.equal(lease.epoch, 2)
    t.equal(lease.provenAtMs, -Infinity)
  })

  t.test('begins an epoch when something was amiss for a while, though it left no trace', async t => {
    const { clock, lease, line } = trusted()
    clock.advance(1000)
    line().answer({ flaw: 'odd' })
    clock.advance(1000)
    line().answer()
    t.equal(lease.epoch, 2)
    t.equal(lease.provenAtMs, -Infinity)
    line().answer()
    t.equal(lease.provenAtMs, clock.monotonic())
  })

  t.test('does not ask in a loop what changes all the time', async t => {
    const { clock, lease, line } = trusted()
    for (let round = 0; round < 5; round++) {
      clock.advance(1000)
      line().answer({ signature: `b${round}` })
      if (round === 0) line().answer({ signature: 'c' })
    }
    t.equal(line().beats.length, 8)
    t.equal(lease.epoch, 7)
  })

  t.test('looks again at once when told that something was mended', async t => {
    const { lease, line } = trusted()
    lease.hurry()
    t.equal(line().beats.length, 3)
    lease.hurry()
    t.equal(line().beats.length, 3)
    const idle = setup()
    idle.lease.hurry()
    t.equal(idle.lines.length, 0)
    idle.lease.start()
    idle.lease.hurry()
    t.same(idle.line().beats, [])
  })

  t.test('dials again for ever, with pauses that grow to two seconds at most and begin anew with trust', async t => {
    for (const random of [0, 0.999999]) {
      const { clock, lease, lines, line } = setup({ random: () => random })
      lease.start()
      const pauses: number[] = []
      for (let attempt = 0; attempt < 30; attempt++) {
        line().reports.down('refused')
        const count = lines.length
        let waitedMs = 0
        while (lines.length === count) {
          clock.advance(1)
          waitedMs++
        }
        pauses.push(waitedMs)
      }
      t.ok(pauses.every(pause => pause >= 50 && pause <= 2000))
      if (random > 0) t.same(pauses.slice(0, 7), [100, 200, 400, 800, 1600, 2000, 2000])
      line().reports.up()
      line().answer()
      line().answer()
      line().reports.down('gone')
      clock.advance(100)
      t.equal(lines.length, 32)
    }
  })

  t.test('waits as long as the line says before it dials again', async t => {
    const { clock, lease, lines, line } = setup()
    lease.start()
    line().reports.down('pooler', 30_000)
    clock.advance(29_999)
    t.equal(lines.length, 1)
    clock.advance(1)
    t.equal(lines.length, 2)
  })

  t.test('remembers the last proof of no more than 64 epochs', async t => {
    const { clock, lease, line } = trusted()
    for (let epoch = 2; epoch <= 100; epoch++) {
      clock.advance(1000)
      line().answer({ signature: `s${epoch}` })
      line().answer({ signature: `s${epoch}` })
    }
    const remembered = Array.from({ length: 101 }, (_, epoch) => lease.lastProofOf(epoch)).filter(proof => proof !== null)
    t.equal(remembered.length, 65)
    t.equal(lease.lastProofOf(35), null)
    t.not(lease.lastProofOf(36), null)
  })

  t.test('cuts its line and sends nothing more when it is closed', async t => {
    const { clock, lease, lines, line } = trusted()
    const { provenAtMs } = lease
    clock.advance(1000)
    lease.close()
    line().answer()
    lease.start()
    clock.advance(60_000)
    t.ok(lines[0]!.isCut)
    t.equal(lines.length, 1)
    t.equal(clock.pendingTimers, 0)
    t.equal(lease.provenAtMs, provenAtMs)
    t.equal(lease.state.phase, 'closed')
  })
})

/** What travels from the server to an instance, in order. */
type Delivery = { readonly kind: 'change', readonly commit: number } | { readonly kind: 'echo', readonly n: number }
interface Commit { readonly atMs: number }
/** What a load read: every commit up to a number. */
interface Entry { readonly epoch: number, readonly read: number, isDead: boolean }

type Step =
  | 'commit' | 'load' | 'connect' | 'take' | 'answer' | 'deliver' | 'deliver all' | 'drop triggers' | 'restore triggers' | 'blink triggers'
  | 'another comes' | 'another goes'
  | 'cut' | 'silence' | 'heal' | 'read' | 'round' | { readonly advance: number }

/** A database with one row, an instance that caches it, and a lease between them. Every edge that is asynchronous in life is a step here. */
class World {
  readonly clock = new ManualClock()
  readonly commits: Commit[] = []
  readonly entries: Entry[] = []
  readonly lease: LeasedTrust
  line: HandLine | null = null
  taken = 0
  /** Two ways back, because nothing promises that the answer and the echo keep their order. */
  stream: Delivery[] = []
  answers: Array<{ readonly n: number, readonly finding: Finding }> = []
  isListening = false
  isSilent = false
  triggers = true
  version = 1
  /** Another trigger that changes what is not announced, and whether a finding has told of it. */
  another: 'none' | 'new' | 'found' = 'none'

  constructor () {
    this.lease = new LeasedTrust({
      ...times,
      clock: this.clock,
      random: () => 0,
      dial: reports => {
        this.line = new HandLine(reports)
        this.taken = 0
        this.stream = []
        this.answers = []
        this.isListening = false
        return this.line
      }
    })
    this.lease.start()
  }

  step (step: Step): void {
    if (typeof step === 'object') {
      this.clock.advance(step.advance)
      return
    }
    switch (step) {
      case 'commit':
        this.commits.push({ atMs: this.clock.monotonic() })
        if (this.triggers && this.another === 'none' && this.isListening) this.stream.push({ kind: 'change', commit: this.commits.length })
        // Nothing of the next instant happens in this one.
        this.clock.advance(1)
        break
      case 'load':
        this.entries.push({ epoch: this.lease.epoch, read: this.commits.length, isDead: false })
        break
      case 'connect':
        if (this.isSilent || this.lease.state.phase !== 'connecting' || this.isListening) break
        this.isListening = true
        this.line!.reports.up()
        break
      case 'take': {
        const n = this.line?.beats[this.taken]
        if (n === undefined || !this.isListening) break
        this.taken++
        this.stream.push({ kind: 'echo', n })
        if (this.another !== 'none') this.another = 'found'
        this.answers.push({ n, finding: this.triggers && this.another === 'none' ? { signature: String(this.version) } : { flaw: 'missing' } })
        break
      }
      case 'answer': {
        const answer = this.isSilent ? undefined : this.answers.shift()
        if (answer !== undefined) this.line!.reports.taken(answer.n, answer.finding)
        break
      }
      case 'deliver':
        this.deliver()
        break
      case 'deliver all':
        while (!this.isSilent && this.stream.length > 0) this.deliver()
        break
      case 'round': // all of it, undisturbed
        for (const step of ['connect', 'take', 'answer', 'deliver all'] as const) this.step(step)
        break
      case 'drop triggers':
        this.triggers = false
        break
      case 'restore triggers':
        if (!this.triggers) this.version++
        this.triggers = true
        break
      case 'blink triggers': // a transaction that drops, writes and restores
        this.version++
        this.triggers = true
        this.commits.push({ atMs: this.clock.monotonic() })
        this.clock.advance(1)
        break
      case 'another comes':
        if (this.another === 'none') this.another = 'new'
        break
      case 'another goes': // without a trace, when it was found; what comes and goes between two findings is not covered
        if (this.another === 'new') this.version++
        this.another = 'none'
        break
      case 'cut':
        if (this.lease.state.phase !== 'waiting') this.line!.reports.down('cut')
        break
      case 'silence':
        this.isSilent = true
        break
      case 'heal':
        this.isSilent = false
        break
      case 'read':
        this.line!.read()
    }
    if (this.line!.isCut) this.isListening = false
  }

  deliver (): void {
    const next = this.isSilent ? undefined : this.stream.shift()
    if (next === undefined) return
    if (next.kind === 'echo') this.line!.reports.echo(next.n)
    else for (const entry of this.entries) if (entry.read < next.commit) entry.isDead = true
  }

  /** What a proof says of an entry that no announcement has named: it agrees with everything committed before. */
  lie (): string | null {
    for (const entry of this.entries) {
      const proof = this.lease.lastProofOf(entry.epoch)
      if (entry.isDead || proof === null) continue
      const missed = this.commits.findIndex(({ atMs }, index) => index >= entry.read && atMs < proof.monotonicMs)
      if (missed !== -1) return `epoch ${entry.epoch} is proven until ${proof.monotonicMs}, but commit ${missed + 1} at ${this.commits[missed]!.atMs} was not announced to an entry that had read ${entry.read}`
    }
    return null
  }
}

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom<Step>('commit', 'load') },
  { weight: 12, arbitrary: fc.constantFrom<Step>('connect', 'take', 'answer', 'deliver', 'deliver all') },
  { weight: 12, arbitrary: fc.constant<Step>('round') },
  { weight: 3, arbitrary: fc.constantFrom<Step>('drop triggers', 'restore triggers', 'blink triggers', 'another comes', 'another goes') },
  { weight: 3, arbitrary: fc.constantFrom<Step>('cut', 'silence', 'heal', 'heal', 'read') },
  { weight: 6, arbitrary: fc.record({ advance: fc.constantFrom(1, 10, 500, 1000, 2500) }) }
)

t.test('whatever happens, in whatever order, a proof holds', async t => {
  let proofs = 0
  fc.assert(fc.property(fc.array(step, { minLength: 40, maxLength: 250, size: 'max' }), steps => {
    const world = new World()
    let { epoch, provenAtMs } = world.lease
    for (const step of steps) {
      world.step(step)
      const lie = world.lie()
      if (lie !== null) throw new Error(lie)
      const { lease } = world
      if (lease.epoch < epoch) throw new Error('an epoch came back')
      if (lease.epoch === epoch && lease.provenAtMs < provenAtMs) throw new Error('a proof was taken back')
      if (lease.provenAtMs > world.clock.monotonic()) throw new Error('a proof of the future')
      if (lease.provenAtMs > provenAtMs) proofs++
      ;({ epoch, provenAtMs } = lease)
    }
  }), { numRuns: 2000 })
  t.ok(proofs > 2000, `${proofs} proofs were judged`)
})

t.test('whatever has happened, trust comes back within an interval and two pauses once all is well', async t => {
  fc.assert(fc.property(fc.array(step, { maxLength: 100, size: 'max' }), steps => {
    const world = new World()
    for (const step of [...steps, 'heal', 'restore triggers', 'another goes'] as Step[]) world.step(step)
    for (let ms = 0; ms <= times.heartbeatTimeoutMs + times.heartbeatIntervalMs + 100; ms += 10) {
      for (const step of ['read', 'connect', 'take', 'answer', 'deliver all', 'take', 'answer', 'deliver all', { advance: 10 }] as Step[]) world.step(step)
    }
    if (world.lease.state.phase !== 'trusted') throw new Error(JSON.stringify(world.lease.state))
  }), { numRuns: 500 })
})
