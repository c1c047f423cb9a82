import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { json } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { clerkSimulator } from '@orientor/clerk-simulator'
import { startApp, type AppProcess } from '../measure/app-process.js'
import { environmentOf } from '../source/stack.js'
import type { OpenScene } from './plain-sql.js'

const names = ['a', 'b', 'c'] as const
const userCount = 12
const webhookPath = '/webhooks/clerk'
// Until every instance has heard the bell once.
const warmUps = 20
const warmUpPauseMs = 20

/**
 * Three instances of the reference app with a bell over NOTIFY, the first of which takes the provider's webhooks: users
 * are changed at the provider; measured from the sending of the webhook.
 */
export async function webhooks (databaseUrl: string): Promise<OpenScene> {
  const closers: Array<() => Promise<unknown>> = []
  const close = async (): Promise<void> => {
    for (const closer of closers.splice(0).reverse()) await closer()
  }
  try {
    const clerk = await clerkSimulator()
    closers.push(() => clerk.close())
    await clerk.listen({ host: '127.0.0.1', port: 0 })
    const { simulator } = clerk
    const users = await Promise.all(Array.from({ length: userCount }, async () => {
      const { id } = await simulator.createUser({ firstName: 'v0' })
      const token = await simulator.mintToken({ userId: id, lifetimeSeconds: 7200 })
      return { id, headers: { authorization: `Bearer ${token}` } }
    }))
    const main = fileURLToPath(import.meta.resolve('@orientor-examples/reference-app/main.js'))
    const more = { BELL_URL: databaseUrl, CLERK_WEBHOOK_SECRETS: simulator.webhookSecret }
    const apps = new Map<string, AppProcess>()
    for (const name of names) {
      const app = await startApp(main, { ...environmentOf(databaseUrl, clerk), ...more }, '/public')
      closers.push(() => app.stop())
      apps.set(name, app)
    }
    await simulator.addWebhookEndpoint({ url: `${apps.get(names[0])!.url}${webhookPath}`, events: ['user.updated'] })
    const agent = new Agent({ keepAlive: true })
    closers.unshift(async () => { agent.destroy() })

    /** Asks an instance for a user: the name, where the answer is not marked as stale. */
    const nameOf = async (app: AppProcess, headers: Readonly<Record<string, string>>): Promise<string | null> => {
      const [response] = await once(get(`${app.url}/me`, { agent, headers }), 'response') as [IncomingMessage]
      const { user } = await json(response) as { readonly user?: { readonly firstName: string | null } }
      return response.headers['x-session-stale'] === undefined ? user?.firstName ?? null : null
    }
    let changes = 0
    const scene: OpenScene = {
      instances: names,
      async change () {
        const { id, headers } = users[changes % userCount]!
        const firstName = `v${++changes}`
        const sentAtMs = performance.now()
        await simulator.updateUser(id, { firstName })
        return {
          sentAtMs,
          ask: async instance => await nameOf(apps.get(instance)!, headers) === firstName ? performance.now() : null
        }
      },
      close
    }
    for (const app of apps.values()) for (const { headers } of users) await nameOf(app, headers)
    for (let change = 0; change < warmUps; change++) {
      const { ask } = await scene.change()
      for (const name of names) {
        while (await ask(name) === null) await new Promise(resolve => { setTimeout(resolve, warmUpPauseMs) })
      }
    }
    return scene
  } catch (error) {
    await close()
    throw error
  }
}
