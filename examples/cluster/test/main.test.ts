import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { until } from '@orientor/test-kit'
import t from 'tap'

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const lastsAtMostMs = 60_000

/** What is needed of a test: tap's `t` has it. */
interface Test { teardown (callback: () => unknown): void }

interface Running {
  output (): string
  readonly ended: Promise<number | NodeJS.Signals>
  kill (signal: NodeJS.Signals): void
  type (keys: string): void
  /** The process and everything below it. */
  family (): number[]
}

function launch (t: Test, ...args: string[]): Running {
  const { PATH = '' } = process.env
  // Without what tap puts into NODE_OPTIONS of its children.
  const child = spawn('env', ['-u', 'NODE_OPTIONS', process.execPath, main, ...args], { env: { PATH }, stdio: 'pipe' })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => { output += chunk.toString() })
  const ended = new Promise<number | NodeJS.Signals>(resolve => { child.on('close', (code, signal) => { resolve(code ?? signal!) }) })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return { output: () => output, ended, kill: signal => { child.kill(signal) }, type: keys => { child.stdin.write(keys) }, family: () => familyOf(child.pid!) }
}

function familyOf (pid: number): number[] {
  const children = readdirSync('/proc').filter(name => /^\d+$/.test(name)).filter(name => {
    try {
      return Number(/^\d+ \(.*\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'utf8'))?.[1]) === pid
    } catch {
      return false
    }
  })
  return [pid, ...children.flatMap(child => familyOf(Number(child)))]
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

async function nothingIsLeft (family: readonly number[]): Promise<void> {
  await until('nothing is left', () => !family.some(isAlive), 20_000)
}

/** A row of the table of an instance that serves a user. */
const serving = (name: string): RegExp => new RegExp(`^${name} +reached +\\d`, 'm')

t.test('Without a terminal it prints what each instance serves, cuts off and heals on a key, and ends on another', async t => {
  const cluster = launch(t)
  await until('all instances have answered', () => ['one', 'two', 'three'].every(name => serving(name).test(cluster.output())), lastsAtMostMs)
  const family = cluster.family()
  t.ok(family.length > 8, 'three instances and PostgreSQL run')
  cluster.type('2')
  await until('it is cut off', () => /^two +cut off/m.test(cluster.output()), lastsAtMostMs)
  t.match(cluster.output(), 'two is cut off from the database')
  cluster.type('2')
  await until('it is healed', () => cluster.output().includes('two is healed'), lastsAtMostMs)
  cluster.type('q')
  t.equal(await cluster.ended, 0, cluster.output())
  t.match(cluster.output(), /\n[\d,]+ reads: [\d,]+ marked stale, [\d,]+ without a user\noldest unmarked user [\d,.]+ ms; the bound is 2,000 ms: held\n$/)
  t.strictSame(cluster.output().split('\n').filter(line => line.length > 80), [], 'every line fits 80 columns')
  await nothingIsLeft(family)
})

t.test('With --seconds it ends by itself', async t => {
  const cluster = launch(t, '--seconds', '1')
  t.equal(await cluster.ended, 0, cluster.output())
  t.match(cluster.output(), / reads: .*\noldest unmarked user /)
})

t.test('Ctrl-C, which npm sends a second time, leaves no process', async t => {
  const cluster = launch(t)
  await until('it runs', () => serving('one').test(cluster.output()), lastsAtMostMs)
  const family = cluster.family()
  cluster.kill('SIGINT')
  cluster.kill('SIGINT')
  t.equal(await cluster.ended, 0, cluster.output())
  await nothingIsLeft(family)
})

t.test('Ctrl-C during the start leaves no process', async t => {
  const cluster = launch(t)
  await until('PostgreSQL is on its way', () => cluster.family().length > 2, lastsAtMostMs)
  const family = cluster.family()
  cluster.kill('SIGINT')
  t.equal(await cluster.ended, 0, cluster.output())
  t.notMatch(cluster.output(), ' reads: ')
  await nothingIsLeft(family)
})

t.test('kill -9 leaves no process', async t => {
  const cluster = launch(t)
  await until('it runs', () => serving('one').test(cluster.output()), lastsAtMostMs)
  const family = cluster.family()
  cluster.kill('SIGKILL')
  t.equal(await cluster.ended, 'SIGKILL')
  await nothingIsLeft(family)
})

t.test('A wrong command line is told, with how it is used', async t => {
  const cluster = launch(t, '--seconds', 'soon')
  t.equal(await cluster.ended, 1)
  t.equal(cluster.output(), '--seconds must be a number above 0, at most 86400; received "soon"\nUsage: npm run cluster [-- --seconds <number above 0>]\n')
})
