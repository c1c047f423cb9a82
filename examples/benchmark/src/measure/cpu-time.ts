import { existsSync, readdirSync, readFileSync } from 'node:fs'
import type { AppProcess } from './app-process.js'

/** What an app that is measured answers to the message `cpu` where the system does not tell. */
export const cpuQuestion = 'cpu'

/**
 * How long all threads of an app have been on a core since its start, in microseconds: from the scheduler's own books where there are
 * any (Linux, to the nanosecond), else by asking the app for its `process.cpuUsage()`.
 */
export async function cpuMicros (app: AppProcess): Promise<number> {
  const tasks = `/proc/${app.pid}/task`
  return existsSync(`${tasks}/${app.pid}/schedstat`) ? bookedNanos(tasks) / 1000 : await app.ask(cpuQuestion) as number
}

function bookedNanos (tasks: string): number {
  let total = 0
  for (const task of readdirSync(tasks)) total += Number(readFileSync(`${tasks}/${task}/schedstat`, 'latin1').split(' ', 1)[0])
  return total
}
