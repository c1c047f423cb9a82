import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { freePort } from './free-port.js'
import type { Teardown } from './postgres/test-database.js'
import { until } from './until.js'

/**
 * For the option `skip` of a test that needs Redis: false where `redis-server` is installed, else the reason. Where CI
 * installs every program that a test needs, nothing is skipped, so that what is missing fails.
 */
export const withoutRedis: string | false = isExpected() ? false : 'redis-server is not installed'

function isExpected (): boolean {
  return process.env['CI'] === 'true' || spawnSync('redis-server', ['--version']).status === 0
}

/**
 * Starts a Redis on a free port of 127.0.0.1, without persistence, and answers the port; it ends with the test.
 *
 * @param settings - as in redis.conf, such as `requirepass`
 * @throws when it is not installed, or does not answer within a minute
 */
export async function startRedis (t: Teardown, settings: Readonly<Record<string, string>> = {}): Promise<number> {
  const port = await freePort()
  const folder = mkdtempSync('/tmp/orientor-redis-')
  const usual = { port: String(port), bind: '127.0.0.1', save: '', appendonly: 'no', dir: folder, daemonize: 'no' }
  const words = Object.entries({ ...usual, ...settings }).flatMap(([name, value]) => [`--${name}`, value])
  const child = spawn('redis-server', words, { stdio: 'ignore' })
  let failure: Error | null = null
  child.once('error', error => { failure = error })
  child.once('exit', () => { failure ??= new Error('redis-server has ended: look at the settings') })
  t.teardown(() => {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })
  await until('Redis answers', async () => {
    if (failure !== null) {
      throw new Error('Redis could not be started. On Debian: apt-get install redis-server', { cause: failure })
    }
    return await answers(port)
  })
  return port
}

/** Whether a server on the port answers a PING, be it with a refusal. */
async function answers (port: number): Promise<boolean> {
  return await new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => { socket.write('PING\r\n') })
    socket.setTimeout(1000, () => { socket.destroy() })
    socket.once('data', chunk => {
      resolve(/^(?:\+PONG|-NOAUTH)/.test(chunk.toString('latin1')))
      socket.destroy()
    })
    socket.on('error', () => {})
    socket.once('close', () => { resolve(false) })
  })
}
