import { availableParallelism, cpus, loadavg } from 'node:os'

/** The machine and what else it does, in a line: no figure means anything without. */
export function machine (): string {
  return `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${availableParallelism()} cores, Node.js ${process.version}, load average ${loadavg()[0]!.toFixed(2)} at the start`
}
