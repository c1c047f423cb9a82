import { clerkSimulator, type SimulatorOptions } from './simulator-app.js'

/** What the program needs of its process: where to write, and the signals that end it. */
export interface Surroundings {
  once (signal: 'SIGINT' | 'SIGTERM', callback: () => void): unknown
  readonly stdout: { write (text: string): unknown }
  readonly stderr: { write (text: string): unknown }
}

/**
 * Runs the simulator until SIGINT or SIGTERM.
 *
 * Reads `HOST` (default 127.0.0.1), `PORT` (default 4010), `ISSUER`, `CLERK_SECRET_KEY` and `CLERK_WEBHOOK_SECRET`.
 *
 * @returns the exit code: 0 after a signal, 1 when it could not start
 */
export async function startSimulator (env: Readonly<Record<string, string | undefined>>, surroundings: Surroundings): Promise<number> {
  const { HOST: host = '127.0.0.1', PORT: portText = '4010', ISSUER: issuer, CLERK_SECRET_KEY: secretKey, CLERK_WEBHOOK_SECRET: webhookSecret } = env
  const port = /^\d{1,5}$/.test(portText) ? Number(portText) : NaN
  if (!(port <= 65_535)) {
    surroundings.stderr.write(`PORT must be an integer from 0 to 65535; received ${JSON.stringify(portText)}.\n`)
    return 1
  }
  const options: SimulatorOptions = {
    ...issuer !== undefined && { issuer },
    ...secretKey !== undefined && { secretKey },
    ...webhookSecret !== undefined && { webhookSecret }
  }
  const app = await clerkSimulator(options)
  const stopped = new Promise<void>(resolve => {
    surroundings.once('SIGINT', resolve)
    surroundings.once('SIGTERM', resolve)
  })
  try {
    const address = await app.listen({ host, port })
    surroundings.stdout.write(`Clerk simulator at ${address}; its keys: ${address}/control/instance\n`)
    await stopped
    return 0
  } catch (error) {
    surroundings.stderr.write(`The Clerk simulator could not start on ${host}:${port}: ${String(error)}\n`)
    return 1
  } finally {
    await app.close()
  }
}
