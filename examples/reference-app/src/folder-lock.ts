import { openSync, closeSync, readFileSync, rmSync, writeSync } from 'node:fs'

/** The folder is in use by another living process. */
export class FolderInUse extends Error {
  override readonly name: string = 'FolderInUse'
  readonly pid: number

  constructor (folder: string, pid: number) {
    super(`${folder} is in use by process ${pid}.`)
    this.pid = pid
  }
}

/**
 * Takes a folder for this process. The lock of a process that is gone, however it ended, does not count.
 *
 * @returns what gives the folder back
 * @throws FolderInUse
 */
export function lockFolder (folder: string): () => void {
  const file = `${folder}.lock`
  for (;;) {
    try {
      const lock = openSync(file, 'wx', 0o600)
      writeSync(lock, `${process.pid} ${startOf(process.pid) ?? ''}\n`)
      closeSync(lock)
      return () => { rmSync(file, { force: true }) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const [pid = '', start = ''] = readFileSync(file, 'utf8').trim().split(' ')
    if (isAlive(Number(pid), start)) throw new FolderInUse(folder, Number(pid))
    rmSync(file, { force: true })
  }
}

function isAlive (pid: number, start: string): boolean {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  return startOf(pid) === (start === '' ? null : start)
}

/** When a process started, in ticks since the boot: tells it from a later one of the same id. null where there is no /proc. */
function startOf (pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}
