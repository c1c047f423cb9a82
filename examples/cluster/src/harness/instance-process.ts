import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { Watchdog } from '@orientor/test-kit'
import type { InstanceNews, InstanceOrder, InstanceSettings } from '../instance/instance-settings.js'

// The built files, also when this runs from the sources: what is measured is what is shipped.
const built = new URL('../../dist/instance/', import.meta.url)
/**
 * A built checkout of the release whose instances listen, to try an upgrade with; left out: instances of this one
 * that listen as those did.
 */
const { CLUSTER_PREVIOUS: previous } = process.env
const startedWithinMs = 30_000
const stoppedWithinMs = 5_000
const keptOutput = 20_000

/** An instance in a process of its own, which ends with this one at the latest. */
export class InstanceProcess {
  readonly name: string
  readonly url: string
  readonly #child: ChildProcess
  readonly #output: () => string
  #watchdog: Watchdog | null = null

  /** Use startInstance(). */
  constructor (name: string, url: string, child: ChildProcess, output: () => string) {
    this.name = name
    this.url = url
    this.#child = child
    this.#output = output
  }

  get pid (): number {
    return this.#child.pid!
  }

  /** The last that it wrote: its log. */
  get output (): string {
    return this.#output()
  }

  tell (order: InstanceOrder): void {
    this.#child.send(order)
  }

  /** Stops the process where it stands (SIGSTOP). It cannot notice then that this process has ended: somebody watches for it. */
  freeze (): void {
    this.#watchdog = new Watchdog(this.pid, null)
    this.#child.kill('SIGSTOP')
  }

  thaw (): void {
    this.#child.kill('SIGCONT')
    this.#watchdog?.dismiss()
    this.#watchdog = null
  }

  /** Ends the process, by force if it does not end by itself. */
  async stop (): Promise<void> {
    if (this.#watchdog !== null) this.thaw()
    await end(this.#child)
  }
}

/**
 * Starts an instance; resolves when it listens.
 *
 * @throws when it ends before, or does not listen within 30 s; it is ended then
 */
export async function startInstance (settings: InstanceSettings): Promise<InstanceProcess> {
  const { PATH = '' } = process.env
  const isPrevious = settings.hearing === 'notify' && previous !== undefined
  const folder = isPrevious ? pathToFileURL(`${previous}/examples/cluster/dist/instance/`) : built
  // The same under the names that it had there.
  const told = isPrevious
    ? { ...settings, listenUrl: settings.busUrl, heartbeatIntervalMs: 400, heartbeatTimeoutMs: settings.pollTimeoutMs }
    : settings
  const child = fork(fileURLToPath(new URL('main.js', folder)), {
    execArgv: ['--import', new URL('shifted-date.js', folder).href],
    env: { PATH, CLUSTER_INSTANCE: JSON.stringify(told) },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc']
  })
  let output = ''
  const keep = (chunk: Buffer): void => { output = (output + chunk.toString()).slice(-keptOutput) }
  child.stdout!.on('data', keep)
  child.stderr!.on('data', keep)
  const impatience = AbortSignal.timeout(startedWithinMs)
  try {
    const [news] = await Promise.race([
      once(child, 'message', { signal: impatience }) as Promise<[InstanceNews]>,
      once(child, 'exit').then(([code, signal]) => { throw new Error(`it ended with ${String(code ?? signal)}`) })
    ])
    return new InstanceProcess(settings.name, news.url, child, () => output)
  } catch (error) {
    await end(child)
    throw new Error(`Instance ${settings.name} did not start: ${error instanceof Error ? error.message : String(error)}\n${output}`)
  }
}

async function end (child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const impatience = setTimeout(() => { child.kill('SIGKILL') }, stoppedWithinMs)
  await gone
  clearTimeout(impatience)
}
