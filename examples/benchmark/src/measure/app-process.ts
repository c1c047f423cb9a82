import { fork } from 'node:child_process'
import { once } from 'node:events'
import { freePort } from '@orientor/test-kit'

/** An app in a process of its own. */
export interface AppProcess {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Sends the app a message and resolves with its next one. */
  ask (message: string): Promise<unknown>
  stop (): Promise<void>
}

const readyWithinMs = 30_000
const stoppedWithinMs = 15_000

/**
 * Starts an app with `PORT` set to a free port, and waits until `readyPath` answers 200.
 *
 * @throws when it ends before, or does not answer within 30 s
 */
export async function startApp (module: string, environment: Readonly<Record<string, string>>, readyPath: string): Promise<AppProcess> {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const { PATH = '' } = process.env
  // As under npm, the reference app then ends when this process does.
  const child = fork(module, { env: { PATH, npm_lifecycle_event: 'bench', ...environment, HOST: '127.0.0.1', PORT: String(port) }, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const gone = once(child, 'exit')
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM')
    const impatience = setTimeout(() => { child.kill('SIGKILL') }, stoppedWithinMs)
    await gone
    clearTimeout(impatience)
  }
  const ask = async (message: string): Promise<unknown> => {
    const answer = once(child, 'message')
    child.send(message)
    const [said] = await answer as [unknown]
    return said
  }
  const until = performance.now() + readyWithinMs
  while (!await answers(`${url}${readyPath}`)) {
    if (child.exitCode !== null) throw new Error(`${module} ended with code ${child.exitCode} before it answered`)
    if (performance.now() > until) {
      await stop()
      throw new Error(`${module} did not answer ${readyPath} within ${readyWithinMs} ms`)
    }
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
  return { url, port, pid: child.pid!, ask, stop }
}

async function answers (url: string): Promise<boolean> {
  try {
    return (await fetch(url)).ok
  } catch {
    return false
  }
}
