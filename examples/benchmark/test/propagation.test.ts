import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const main = fileURLToPath(new URL('../dist/propagation.js', import.meta.url))

function run (...args: string[]): { readonly status: number | null, readonly stdout: string, readonly stderr: string } {
  const { PATH = '' } = process.env
  return spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, main, ...args], { env: { PATH }, encoding: 'utf8' })
}

t.test('bench:propagation runs, and closes with one JSON object of all its figures', async t => {
  const { status, stdout, stderr } = run('--json', '--changes', '20')
  t.equal(status, 0, stderr)
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as Record<'polls' | 'bell', Record<string, number>>
  t.strictSame(Object.keys(result).sort(), ['bell', 'changes', 'instances', 'pollIntervalMs', 'polls'])
  t.match(result, { changes: 20, instances: 3, pollIntervalMs: 200 })
  for (const { p50Ms = 0, p99Ms = 0, maxMs = 0 } of [result.polls, result.bell]) t.ok(p50Ms > 0 && p50Ms <= p99Ms && p99Ms <= maxMs)
  t.match(stdout, /^polls p99Ms: .*: not judged by fewer than 100 changes$/m)
  t.ok(result.polls['p50Ms']! < 1000, `announced, not expired: ${result.polls['p50Ms']} ms`)
})

t.test('bench:propagation -- --webhook changes users at the provider, and shows them on every instance', async t => {
  const { status, stdout, stderr } = run('--json', '--changes', '10', '--webhook')
  t.equal(status, 0, stderr)
  const result = JSON.parse(stdout.trim().split('\n').at(-1)!) as { readonly webhook: Record<string, number> }
  t.strictSame(Object.keys(result).sort(), ['changes', 'instances', 'pollIntervalMs', 'webhook'])
  const { p50Ms = 0, p99Ms = 0, maxMs = 0 } = result.webhook
  t.ok(p50Ms > 0 && p50Ms <= p99Ms && p99Ms <= maxMs)
  for (const name of ['a', 'b', 'c']) t.match(stdout, new RegExp(`^webhook, ${name} +\\d`, 'm'))
  t.match(stdout, /^webhook p99Ms: .*: not judged by fewer than 100 changes$/m)
})

t.test('bench:propagation refuses a senseless number of changes', async t => {
  const { status, stderr } = run('--changes', '0')
  t.equal(status, 1)
  t.match(stderr, '--changes must be a whole number of at least 1; received "0"')
})
