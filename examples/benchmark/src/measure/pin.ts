import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'

/**
 * Ties a process, with all its threads and what it starts from now on, to one core, so that load and app do not drive each other from
 * core to core. Does nothing where there is one core only, or no `taskset`.
 *
 * @returns whether the process is tied
 */
export function pin (pid: number, core: number): boolean {
  if (availableParallelism() < 2 && core > 0) return false
  return spawnSync('taskset', ['-a', '-c', '-p', String(core), String(pid)], { stdio: 'ignore' }).status === 0
}
