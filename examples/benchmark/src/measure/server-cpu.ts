import { readFileSync } from 'node:fs'
import type { PostgresServer } from '@orientor/test-kit'

/**
 * The time that all processes of a PostgreSQL server were on a core, in milliseconds, from the scheduler's books
 * (Linux). A process that ends in between takes its time along.
 */
export function serverCpuMs (server: PostgresServer): number {
  const children = readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, 'latin1').trim().split(' ')
  let nanos = 0
  for (const pid of [String(server.pid), ...children]) nanos += bookedNanos(pid)
  return nanos / 1e6
}

function bookedNanos (pid: string): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ', 1)[0])
  } catch {
    // It has ended.
    return 0
  }
}
