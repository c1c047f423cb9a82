import { spawn, type ChildProcess } from 'node:child_process'

// Reads a pipe that only this process holds: it ends when this process ends, however that happens (kill -9 included).
const script = `
cat >/dev/null
for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do kill -CONT "$child" 2>/dev/null; done
kill -CONT "$1" 2>/dev/null
kill -INT "$1" 2>/dev/null
turns=0
while kill -0 "$1" 2>/dev/null && [ "$turns" -lt 100 ]; do turns=$((turns + 1)); sleep 0.1; done
kill -KILL "$1" 2>/dev/null
[ -z "$2" ] || rm -rf "$2"
`

/** Ends a server when this process ends without having done so, and removes its folder when it was a temporary one. */
export class Watchdog {
  readonly #shell: ChildProcess

  /**
   * @param pid - of the server
   * @param folder - what to remove afterwards; null for a server whose data is kept
   */
  constructor (pid: number, folder: string | null) {
    this.#shell = spawn('sh', ['-c', script, 'sh', String(pid), folder ?? ''], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    this.#shell.unref()
    const pipe = this.#shell.stdin as { unref?: () => void } | null
    pipe?.unref?.()
  }

  /** The server has ended already: nothing is left to watch. */
  dismiss (): void {
    this.#shell.kill('SIGKILL')
  }
}
