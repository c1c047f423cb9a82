import { ClerkError, clerkSimulator } from '@orientor/clerk-simulator'
import type { ProviderConfig } from './config.js'
import { readableReplies } from './readable-replies.js'

/** A simulated identity provider on a loopback address, with one user. */
export interface DemoProvider {
  readonly provider: ProviderConfig
  /** A token of the demo user that is good for an hour. */
  readonly token: string
  /** The URL at which the demo user is changed: by PATCH, and by DELETE. */
  readonly userUrl: string
  /**
   * Sends every change to this URL as a webhook from now on, and first the demo user as they are, whatever an earlier run
   * has left in the database. Resolves to false for a URL that webhooks cannot reach: they go to loopback addresses only.
   */
  sendWebhooksTo (url: string): Promise<boolean>
  stop (): Promise<void>
}

// The same in every run, so that the demo user's row is found again.
const issuer = 'https://clerk.orientor.example'
const user = { id: 'user_demo0000000000000000000000', firstName: 'Ada', lastName: 'Lovelace', email: 'ada@example.com', createdAt: 1_767_225_600_000, updatedAt: 1_767_225_600_000 }

const retryDelaysMs = [1000, 5000, 30_000]
const toldWithinMs = 1000

/** Starts the simulator. */
export async function startDemoProvider (): Promise<DemoProvider> {
  const clerk = await clerkSimulator({ issuer, webhookRetryDelaysMs: retryDelaysMs, prepare: readableReplies })
  const origin = await clerk.listen({ host: '127.0.0.1', port: 0 })
  const { id } = await clerk.simulator.createUser(user)
  return {
    provider: {
      issuer,
      jwksUrl: clerk.simulator.jwksUrl,
      audience: undefined,
      authorizedParties: undefined,
      algorithms: undefined,
      apiUrl: origin,
      secretKey: clerk.simulator.secretKey,
      webhookSecrets: [clerk.simulator.webhookSecret],
      instanceId: clerk.simulator.instanceId
    },
    token: await clerk.simulator.mintToken({ userId: id, lifetimeSeconds: 3600 }),
    userUrl: `${origin}/control/users/${id}`,
    async sendWebhooksTo (url) {
      try {
        await clerk.simulator.addWebhookEndpoint({ url })
      } catch (error) {
        if (error instanceof ClerkError) return false
        throw error
      }
      await clerk.simulator.updateUser(id, {})
      // Later where the database is away: by a retry.
      const patience = new Promise(resolve => { setTimeout(resolve, toldWithinMs).unref() })
      await Promise.race([clerk.simulator.deliveries(), patience])
      return true
    },
    stop: async () => { await clerk.close() }
  }
}
