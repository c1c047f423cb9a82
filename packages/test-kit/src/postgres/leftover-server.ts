import { existsSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const patienceMs = 10_000

/**
 * Ends the server that a killed run left behind on this data folder, and waits until it is gone. A pid file without its server
 * is removed. Processes are recognised through /proc by their working folder, so that a reused process id is never signalled;
 * where there is no /proc, PostgreSQL's own check of the pid file must do.
 */
export async function endLeftover (dataDir: string): Promise<void> {
  const pidFile = join(dataDir, 'postmaster.pid')
  if (!existsSync(pidFile) || !existsSync('/proc/self')) return
  const pid = Number(readFileSync(pidFile, 'utf8').split('\n', 1)[0])
  if (!servesFrom(pid, dataDir)) {
    rmSync(pidFile, { force: true })
    return
  }
  const deadline = Date.now() + patienceMs
  process.kill(pid, 'SIGINT')
  while (servesFrom(pid, dataDir)) {
    if (Date.now() > deadline) {
      process.kill(pid, 'SIGKILL')
      throw new Error(`A PostgreSQL server (process ${pid}) that an earlier run left on ${dataDir} did not end within ${patienceMs} ms and was killed. Start again.`)
    }
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
}

function servesFrom (pid: number, dataDir: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === dataDir
  } catch {
    return false
  }
}
