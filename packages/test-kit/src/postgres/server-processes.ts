import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'

/** Process ids of the children of a process, none when it is gone: through /proc where there is one, else through `pgrep`. */
export function childrenOf (pid: number): number[] {
  const list = existsSync('/proc/self') ? read(`/proc/${pid}/task/${pid}/children`) : spawnSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' }).stdout
  return list.split(/\s+/).filter(text => text !== '').map(Number)
}

/** Sends a signal; a process that is gone is none to worry about. */
export function signal (pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Whether the process lives: one that has ended and that nobody has asked for yet does not. */
export function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  return !/^\d+ \(.*\) [ZX] /s.test(read(`/proc/${pid}/stat`))
}

function read (file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
