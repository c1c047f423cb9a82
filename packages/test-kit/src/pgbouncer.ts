import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { freePort } from './free-port.js'
import { serverAccount } from './postgres/server-account.js'
import type { Teardown } from './postgres/test-database.js'
import { until } from './until.js'

const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/usr/local/sbin`

/**
 * For the option `skip` of a test that needs PgBouncer: false where it is installed, else the reason. Where CI installs every program that a test needs,
 * nothing is skipped, so that what is missing fails.
 */
export const withoutPgBouncer: string | false = process.env['CI'] === 'true' || spawnSync('pgbouncer', ['--version'], { env: { PATH: path } }).status === 0 ? false : 'PgBouncer is not installed'

/**
 * Starts a PgBouncer in front of a database and answers the connection string through it; it ends with the test.
 *
 * @param settings - of pgbouncer.ini. Default is transaction pooling.
 * @throws when it is not installed, or does not answer within a minute
 */
export async function startPgBouncer (t: Teardown, url: string, settings: Readonly<Record<string, string>> = {}): Promise<string> {
  const target = new URL(url)
  const port = await freePort()
  const folder = mkdtempSync('/tmp/orientor-pgbouncer-')
  chmodSync(folder, 0o755)
  writeFileSync(join(folder, 'users.txt'), `"${target.username}" "${decodeURIComponent(target.password)}"\n`)
  const lines = { listen_addr: '127.0.0.1', listen_port: port, unix_socket_dir: '', auth_type: 'plain', auth_file: `${folder}/users.txt`, pool_mode: 'transaction', ...settings }
  writeFileSync(join(folder, 'pgbouncer.ini'), `[databases]\n* = host=${target.hostname} port=${target.port}\n[pgbouncer]\n${Object.entries(lines).map(([name, value]) => `${name} = ${value}\n`).join('')}`)
  // It refuses to run as root, like PostgreSQL.
  const child = spawn('pgbouncer', ['-q', join(folder, 'pgbouncer.ini')], { stdio: 'ignore', env: { PATH: path }, ...serverAccount() })
  let failure: Error | null = null
  child.once('error', error => { failure = error })
  t.teardown(() => {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  const through = new URL(url)
  through.hostname = '127.0.0.1'
  through.port = String(port)
  await until('PgBouncer answers', async () => {
    if (failure !== null) throw new Error('PgBouncer could not be started. On Debian: apt-get install pgbouncer', { cause: failure })
    const client = new pg.Client({ connectionString: through.href, connectionTimeoutMillis: 1000 })
    client.on('error', () => {})
    return await client.connect().then(() => true, () => false).finally(() => { client.end().catch(() => {}) })
  })
  return through.href
}
