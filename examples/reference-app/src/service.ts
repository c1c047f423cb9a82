import { randomBytes } from 'node:crypto'
import { buildApp } from './app.js'
import type { Config } from './config.js'
import { startDemoProvider, type DemoProvider } from './demo-provider.js'
import { drain } from './drain.js'
import { checkoutRoot, dataFolder, startEmbeddedDatabase, type EmbeddedDatabase } from './embedded-database.js'
import { webhookPath } from './webhook-path.js'

const drainedWithinMs = 500

/** The app, listening, with whatever was started for it. */
export interface Service {
  /** Where it listens. */
  readonly url: string
  /** null when the configuration names a provider. */
  readonly demo: DemoProvider | null
  readonly adminKey: string | null
  /** The embedded database: where it listens, and where its data is; null when the configuration names another. */
  readonly database: Pick<EmbeddedDatabase, 'url' | 'folder'> | null
  /** Whether the simulator tells the app of changes by webhooks. */
  readonly hasWebhooks: boolean
  /** Whether the demo user was deleted in an earlier run, which the database remembers. */
  readonly isDemoUserGone: boolean
  /** Answers the requests in flight, then stops everything. */
  close (): Promise<void>
}

/**
 * Starts what the configuration leaves out (database, provider), then the app.
 *
 * @throws when something cannot be started; what was started is stopped then
 */
export async function startService (config: Config): Promise<Service> {
  const closers: Array<() => Promise<unknown>> = []
  const close = async (): Promise<void> => {
    for (let closer = closers.pop(); closer !== undefined; closer = closers.pop()) await closer()
  }
  try {
    let database: EmbeddedDatabase | null = null
    if (config.databaseUrl === null) {
      database = await startEmbeddedDatabase(dataFolder(checkoutRoot(import.meta.dirname)))
      closers.push(() => database!.stop())
    }
    let demo: DemoProvider | null = null
    if (config.provider === null) {
      demo = await startDemoProvider()
      closers.push(() => demo!.stop())
    }
    const isDemo = demo !== null
    const adminKey = config.adminKey ?? (isDemo ? randomBytes(16).toString('hex') : null)
    const app = await buildApp({
      ...config,
      databaseUrl: config.databaseUrl ?? database!.url,
      provider: config.provider ?? demo!.provider,
      adminKey,
      isDemo,
      logLevel: config.logLevel ?? (isDemo ? 'warn' : 'info')
    })
    closers.push(() => app.close())
    const url = await listen(app, config)
    closers.push(() => drain(app.server, drainedWithinMs))
    const hasWebhooks = demo !== null && await demo.sendWebhooksTo(`${url}${webhookPath}`)
    const isDemoUserGone = demo !== null && await isRefused(app, demo.token)
    return { url, demo, adminKey, database, hasWebhooks, isDemoUserGone, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Whether the app refuses a token that was made a moment ago. */
async function isRefused (app: Awaited<ReturnType<typeof buildApp>>, token: string): Promise<boolean> {
  const { statusCode } = await app.inject({ url: '/me', headers: { authorization: `Bearer ${token}` } })
  return statusCode === 401
}

async function listen (app: Awaited<ReturnType<typeof buildApp>>, { host, port }: Config): Promise<string> {
  await app.ready()
  try {
    return await app.listen({ host, port })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EADDRINUSE') throw new Error(`Port ${port} of ${host} is in use by another program. Stop that program, or choose another port: PORT=${port < 65_535 ? port + 1 : 3000}`)
    throw new Error(`The app cannot listen on port ${port} of ${host} (${code ?? String(error)}). Choose others: HOST=127.0.0.1 PORT=3000`)
  }
}
