import t from 'tap'
import { ManualClock } from '../src/index.js'

t.test('advance moves both clocks by the same amount', async t => {
  const clock = new ManualClock({ now: 5_000 })
  const before = clock.monotonic()
  clock.advance(250)
  t.equal(clock.now(), 5_250)
  t.equal(clock.monotonic() - before, 250)
})

t.test('jump moves the wall clock alone, and fires nothing', async t => {
  const clock = new ManualClock({ now: 5_000 })
  const before = clock.monotonic()
  clock.setTimer(() => { t.fail('a timer must not hear the wall clock') }, 10)
  clock.jump(-3_600_000)
  t.equal(clock.now(), 5_000 - 3_600_000)
  t.equal(clock.monotonic(), before)
})

t.test('timers fire in order of time, then of creation, each at its own instant', async t => {
  const clock = new ManualClock({ now: 0 })
  const fired: string[] = []
  for (const [name, delayMs] of [['late', 30], ['first', 10], ['second', 10]] as const) {
    clock.setTimer(() => { fired.push(`${name}@${clock.now()}`) }, delayMs)
  }
  clock.advance(100)
  t.strictSame(fired, ['first@10', 'second@10', 'late@30'])
  t.equal(clock.now(), 100)
})

t.test('a timer set by a timer fires within the same advance when it falls due', async t => {
  const clock = new ManualClock({ now: 0 })
  const fired: number[] = []
  clock.setTimer(() => { clock.setTimer(() => { fired.push(clock.now()) }, 5) }, 10)
  clock.advance(20)
  t.strictSame(fired, [15])
})

t.test('a cancelled timer does not fire and is not pending', async t => {
  const clock = new ManualClock()
  const timer = clock.setTimer(() => { t.fail('cancelled') }, 1)
  t.equal(clock.pendingTimers, 1)
  timer.cancel()
  clock.advance(10)
  t.equal(clock.pendingTimers, 0)
})

t.test('settle lets chains of promises and immediates run dry', async t => {
  let done = false
  setImmediate(() => { Promise.resolve().then(() => { setImmediate(() => { done = true }) }) })
  await new ManualClock().settle()
  t.ok(done)
})
