import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { once } from 'node:events'
import { testDatabase, until } from '@orientor/test-kit'
import pg from 'pg'
import t, { type Test } from 'tap'
import { dataFolder } from '../src/embedded-database.js'
import { readableJson } from '../src/readable-json.js'
import { builtMain, launch } from './fixtures/launch.js'

/** Where CI installs every program that a test needs, nothing is skipped. */
const withoutCurl = process.env['CI'] === 'true' || spawnSync('curl', ['--version']).status === 0 ? false : 'curl is not installed'

interface Checkout {
  readonly main: string
  /** Where the app keeps its data: in the checkout, or elsewhere where the account of the server cannot reach that. */
  readonly data: string
  /** Processes that live in the checkout or with its data, or that were started with either in their command line. */
  processes (): string[]
}

/** A checkout with nothing but the built app, so that its embedded database is its own. */
function checkout (t: Test): Checkout {
  const root = t.testdir()
  const app = join(root, 'examples', 'reference-app')
  mkdirSync(app, { recursive: true })
  writeFileSync(join(root, 'pnpm-workspace.yaml'), '')
  cpSync(dirname(builtMain), join(app, 'dist'), { recursive: true })
  cpSync(join(dirname(builtMain), '..', 'package.json'), join(app, 'package.json'))
  symlinkSync(join(dirname(builtMain), '..', 'node_modules'), join(app, 'node_modules'))
  const data = dataFolder(root)
  t.teardown(() => { rmSync(data, { recursive: true, force: true }) })
  return { main: join(app, 'dist', 'main.js'), data, processes: () => [root, data].flatMap(processesOf) }
}

function processesOf (folder: string): string[] {
  return readdirSync('/proc').filter(name => /^\d+$/.test(name) && Number(name) !== process.pid).flatMap(pid => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      return command.includes(folder) || readlinkSync(`/proc/${pid}/cwd`).startsWith(folder) ? [`${pid} ${command}`] : []
    } catch {
      return []
    }
  })
}

function tokenIn (output: string): string {
  return /TOKEN=(\S+)/.exec(output)?.[1] ?? ''
}

async function me (url: string, output: string): Promise<{ status: number, userId: string | undefined }> {
  const response = await fetch(`${url}/me`, { headers: { authorization: `Bearer ${tokenIn(output)}` } })
  return { status: response.status, userId: (await response.json() as { user?: { userId: string } }).user?.userId }
}

/** Holds what a terminal shows: lines of 80 columns where none holds a long text, the prompt on a line of its own. */
function isReadable (t: Test, answer: string, title: string): unknown {
  t.match(answer, /[^\n]\n$/, title)
  const lines = answer.trimEnd().split('\n')
  t.strictSame(lines.filter(line => line.length > 80 && !/"[^"]{30,}"/.test(line)), [], title)
  t.ok(lines.length < 200 || title.endsWith('/docs/json'), `${lines.length} lines: ${title}`)
  const value = JSON.parse(answer) as unknown
  t.equal(answer, `${readableJson(value)}\n`)
  return value
}

const { main, processes } = checkout(t)

t.test('With an empty environment the app brings its database and its provider, and says how to try it', async t => {
  const app = launch(t, {}, { main })
  const url = await app.url
  t.match(await me(url, app.output()), { status: 200, userId: '1' })
  const [, key = ''] = /ADMIN_KEY=(\w+)/.exec(app.output()) ?? []
  t.equal((await fetch(`${url}/database/performance`, { headers: { 'x-admin-key': key } })).status, 200, 'with the key it printed')
  t.strictSame(app.output().split('\n').filter(line => line.startsWith('{')), [], 'no log lines')

  const second = launch(t, {}, { main })
  t.equal(await second.ended, 1, 'a second one on the same folder is refused')
  t.match(second.output(), new RegExp(`The embedded database is in use: the app runs already, as process ${app.pid}\\. .*DATABASE_URL=`))
  t.match(await me(url, app.output()), { status: 200, userId: '1' }, 'and does the first no harm')

  app.kill('SIGINT')
  app.kill('SIGINT')
  t.equal(await app.ended, 0, 'Ctrl-C, which npm sends a second time')
  await until('nothing is left', () => processes().length === 0)

  const again = launch(t, {}, { main })
  t.match(await me(await again.url, again.output()), { status: 200, userId: '1' }, 'the next run finds the row again')
  again.kill('SIGTERM')
  t.equal(await again.ended, 0)
  await until('nothing is left', () => processes().length === 0)
})

t.test('The lines that a newcomer is told to try answer readably', { skip: withoutCurl }, async t => {
  const app = launch(t, {}, { main })
  const url = await app.url
  const told = app.output().split('\n')
  const variables = told.filter(line => /^ {2}[A-Z_]+=/.test(line)).join('\n')
  const curl = (line: string): string => execFileSync('sh', ['-c', `${variables}\n${line}`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const asPrinted = told.filter(line => line.startsWith('  curl '))
  t.equal(asPrinted.length, 3)
  const [me, performance] = asPrinted.slice(0, 2).map(line => isReadable(t, curl(line), line.trim()))
  t.match(me, { user: { userId: '1', email: 'ada@example.com' } })
  t.match(performance, { rating: null, ratingBasis: { minSamples: 100, judgedTargets: 0 } })
  const { missingSamples } = (performance as { ratingBasis: { missingSamples: number } }).ratingBasis
  t.ok([97, 98].includes(missingSamples), 'the look of the start, one request, and the webhook of the start are too few for a rating')
  t.equal(curl(asPrinted[2]!), '', 'the user as the provider has it is too long to be shown')
  await until('the webhook has changed the user', () => {
    return (JSON.parse(curl(asPrinted[0]!)) as { user: { firstName: string } }).user.firstName === 'Grace'
  })
  for (const path of ['/me', '/nowhere', '/public', '/docs/json', '/database/health']) isReadable(t, curl(`curl ${url}${path}`), `refusals and other routes: ${path}`)

  const head = await fetch(`${url}/public`, { method: 'HEAD' })
  t.equal(head.headers.get('content-length'), String((await (await fetch(`${url}/public`)).arrayBuffer()).byteLength))
  t.strictSame(told.filter(line => line.length > 80 && !line.startsWith('  TOKEN=')), [], 'every line but the token fits 80 columns')

  app.kill('SIGTERM')
  t.equal(await app.ended, 0)
})

t.test('JSON for people is the same JSON, with what fits on one line', async t => {
  t.equal(readableJson({ a: 1, b: [true, null, 'x'], c: {}, d: [] }), '{ "a": 1, "b": [true, null, "x"], "c": {}, "d": [] }')
  const long = { name: 'x'.repeat(40), list: [{ upToMs: 0.5, count: 0 }, { upToMs: null, count: 12 }], text: 'a "quoted"\nline' }
  t.equal(readableJson(long), `{
  "name": "${'x'.repeat(40)}",
  "list": [{ "upToMs": 0.5, "count": 0 }, { "upToMs": null, "count": 12 }],
  "text": "a \\"quoted\\"\\nline"
}`)
  // A line may be 80 columns wide with its comma, and breaks at one more.
  for (const [length, lines] of [[63, 4], [64, 4], [65, 8], [66, 8]] as const) {
    const text = readableJson([{ key: 'x'.repeat(length) }, { key: 'y'.repeat(length) }])
    t.equal(text.split('\n').length, lines, `${length}`)
    t.ok(text.split('\n').every(line => line.length <= 80))
  }
  // Lines are filled in the same way, and no further.
  for (const [length, lines] of [[37, 2], [38, 3]] as const) {
    const text = readableJson(['x'.repeat(34), 'y'.repeat(length), 'z'.repeat(70)])
    t.equal(text.split('\n').length, lines + 2, `${length}`)
    t.ok(text.split('\n').every(line => line.length <= 80))
    t.strictSame(JSON.parse(text), ['x'.repeat(34), 'y'.repeat(length), 'z'.repeat(70)])
  }
})

t.test('After kill -9 of the app the next start recovers', async t => {
  const app = launch(t, {}, { main })
  t.match(await me(await app.url, app.output()), { status: 200, userId: '1' })
  app.kill('SIGKILL')
  t.equal(await app.ended, 'SIGKILL')

  const next = launch(t, {}, { main })
  t.match(await me(await next.url, next.output()), { status: 200, userId: '1' }, 'at once, with the row of before')
  next.kill('SIGTERM')
  t.equal(await next.ended, 0)
  await until('nothing is left', () => processes().length === 0)
})

t.test('The app ends when npm has ended the shell between them', async t => {
  const app = launch(t, { npm_lifecycle_event: 'start' }, { main, command: ['sh', '-c', `"${process.execPath}" "${main}"; exit 7`] })
  t.teardown(() => { for (const left of processes()) process.kill(Number.parseInt(left), 'SIGKILL') })
  await app.url
  app.kill('SIGTERM')
  await until('nothing is left', () => processes().length === 0)
  t.pass('nothing is left')
})

t.test('A signal during the start stops what was started', async t => {
  const { main, data, processes } = checkout(t)
  const app = launch(t, {}, { main })
  await until('the database is on its way', () => readdirSync(data).length > 0)
  app.kill('SIGTERM')
  t.equal(await app.ended, 0)
  t.equal(app.output(), '', 'and nothing is said to have started')
  await until('nothing is left', () => processes().length === 0)
})

t.test('A port in use is told, with exit code 1 and nothing left behind', async t => {
  const other = createServer().listen(0, '127.0.0.1')
  t.teardown(() => { other.close() })
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  const app = launch(t, { PORT: String(port) }, { main })
  t.equal(await app.ended, 1)
  t.equal(app.output(), `The app could not start. Port ${port} of 127.0.0.1 is in use by another program. Stop that program, or choose another port: PORT=${port + 1}\n`)
  await until('nothing is left', () => processes().length === 0)
})

t.test('An address that is not of this machine is told', async t => {
  const app = launch(t, { HOST: '192.0.2.1' }, { main })
  t.equal(await app.ended, 1)
  t.match(app.output(), /^The app could not start\. The app cannot listen on port 0 of 192\.0\.2\.1 \(EADDRNOTAVAIL\)\. Choose others: HOST=127\.0\.0\.1 PORT=3000\n$/)
})

t.test('A database that cannot be used is told for what is the matter, with what the server or the system said', async t => {
  const { url } = await testDatabase(t)
  const operator = new pg.Client({ connectionString: url })
  await operator.connect()
  await operator.query('CREATE TABLE users (email text)')
  await operator.end()
  const reasons: ReadonlyArray<readonly [string, RegExp]> = [
    [url, /^The app could not start\. The tables of smart-sync could not be brought up to date: the table "users" has no column "id"; its columns are email\. Mend the options\.\n$/],
    [`${url}?sslrootcert=/nowhere`, /^The app could not start\. .*a file that cannot be read: sslrootcert=\/nowhere \(ENOENT\)/],
    ['postgres://u:hunter2@h1,h2/d', /^The app could not start\. .*several hosts/]
  ]
  for (const [databaseUrl, said] of reasons) {
    const app = launch(t, { DATABASE_URL: databaseUrl, LOG_LEVEL: 'silent' }, { main })
    t.equal(await app.ended, 1)
    t.match(app.output(), said)
    t.notMatch(app.output(), /hunter2/)
  }
})

t.test('A wrong environment is told at once, with exit code 1', async t => {
  const app = launch(t, { DATABASE_URL: 'postgres://ann:Hunter2#@db/app', PORT: 'http', HEARTBEAT_TIMEOUT_MS: '5' })
  t.equal(await app.ended, 1)
  t.match(app.output(), /^The configuration has 3 problems:\n {2}HEARTBEAT_TIMEOUT_MS is not read any more: .*\n {2}PORT must be .*\n {2}DATABASE_URL must be the URL of a PostgreSQL database, .*; received a string of \d+ characters\. Write for example DATABASE_URL=postgres:/)
  t.notMatch(app.output(), /Hunter2/)
})

t.test('A .env file in the current folder is read; the environment counts for more', async t => {
  const app = launch(t, { PORT: '0' }, { cwd: t.testdir({ '.env': 'PORT=x\nPG_PRESET=y\n' }) })
  t.equal(await app.ended, 1)
  t.match(app.output(), /^The configuration has a problem:\n {2}PG_PRESET must be one of/)
})
