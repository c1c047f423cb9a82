import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { ChangedUsers } from '../src/sync/changed-users.js'
import { figuresOf, report, resultOf, type SyncPart, type SyncResult, type SyncRound } from '../src/sync/report.js'

const main = fileURLToPath(new URL('../dist/sync.js', import.meta.url))

function run (...args: string[]): { readonly status: number | null, readonly stdout: string, readonly stderr: string } {
  const { PATH = '' } = process.env
  return spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, ...args], { env: { PATH }, encoding: 'utf8' })
}

t.test('Users change in turns, each time with a later version and other content, and never twice at once', async t => {
  const users = new ChangedUsers(30, 1000)
  const [all, some, others] = [users.next(30), users.next(20), users.next(20)]
  const subjects = Array.from({ length: 30 }, (_, user) => `user_${user}`).sort()
  t.strictSame(all.map(({ subject }) => subject).sort(), subjects)
  t.notSame(all.map(({ subject }) => subject), subjects, 'in an order of its own')
  t.ok(all.every(({ version }) => version === 1000))
  t.equal(new Set(some.map(({ subject }) => subject)).size, 20)
  t.ok(some.every(({ version }) => version === 1001))
  t.ok(others.every(({ version }) => version === 1002), 'no turn is divided')
  const [first] = some
  t.not(all.find(({ subject }) => subject === first!.subject)!.fingerprint, first!.fingerprint)
})

t.test('The ratios of neighbours count, and the part whose commits wait for the disk is judged', async t => {
  const round = (speed: number, gain: number): SyncRound => {
    const singles = { singles10: speed / 2, singles: speed / 8, upserts10: speed, upserts: speed / 4 }
    return { batches: speed * gain, batches10: speed * gain * 2, ...singles }
  }
  const part = (synchronousCommit: 'on' | 'off', gain: number): SyncPart => {
    return { synchronousCommit, rounds: [round(1000, gain), round(9000, gain + 1), round(100, gain - 1)] }
  }
  const parts = [part('off', 2), part('on', 4)]
  const unchanged = { users: 100, statements: 1, walRecords: 0, singleWalRecords: 100 }
  const { gain10, gain1, gain10At10, ofUsers10, ofUsers1, rowsPerSecond } = figuresOf(parts[1]!)
  t.strictSame(gain10, { low: 3.5, median: 4, high: 4.5 })
  t.strictSame([gain1.median, gain10At10.median, rowsPerSecond.upserts10], [16, 8, 1000])
  t.strictSame([ofUsers10.median, ofUsers1.median], [16, 32])
  t.match(resultOf(parts, unchanged), { batchGain10: 4, batchGain1: 16, unchangedWalRecords: 0 })
  const verdicts = (text: string): string[] => text.split('\n').slice(-3)
  t.strictSame(verdicts(report(parts, unchanged)), [
    'batchGain10: 4; the goal is at least 4: met',
    'batchGain1: 16; the goal is at least 12: met',
    'unchangedWalRecords: 0; the goal is at most 0: met'
  ])
  t.strictSame(verdicts(report([part('on', 2.9)], { ...unchanged, walRecords: 1 })), [
    'batchGain10: 2.9; the goal is at least 4: MISSED',
    'batchGain1: 11.6; the goal is at least 12: MISSED',
    'unchangedWalRecords: 1; the goal is at most 0: MISSED'
  ])
})

t.test('bench:sync runs, writes nothing for users in step, and closes with one JSON object', async t => {
  const { status, stdout, stderr } = run('--json', '--rounds', '1')
  t.equal(status, 0, stderr)
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as SyncResult
  t.strictSame(Object.keys(result), ['batchGain10', 'batchGain1', 'unchangedWalRecords', 'unchanged', 'parts'])
  t.match(result.unchanged, { users: 10_000, statements: 50, walRecords: 0 })
  t.ok(result.unchanged.singleWalRecords >= 10_000, 'a single upsert that changes nothing writes all the same')
  t.strictSame(result.parts.map(({ synchronousCommit }) => synchronousCommit), ['off', 'on'])
  for (const { rowsPerSecond } of result.parts) t.ok(Object.values(rowsPerSecond).every(rate => rate > 0))
  t.ok(result.batchGain1 > 1, `${result.batchGain1}`)
})

t.test('bench:sync refuses a senseless number of rounds', async t => {
  const { status, stderr } = run('--rounds', '0')
  t.equal(status, 1)
  t.match(stderr, '--rounds must be a whole number of at least 1; received "0"')
})
