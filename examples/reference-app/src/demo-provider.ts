import { clerkSimulator } from '@orientor/clerk-simulator'
import type { ProviderConfig } from './config.js'

/** A simulated identity provider on a loopback address, with one user. */
export interface DemoProvider {
  readonly provider: ProviderConfig
  /** A token of the demo user that is good for an hour. */
  readonly token: string
  stop (): Promise<void>
}

// The same in every run, so that the demo user's row is found again.
const issuer = 'https://clerk.orientor.example'
const user = { id: 'user_demo0000000000000000000000', firstName: 'Ada', lastName: 'Lovelace', email: 'ada@example.com', createdAt: 1_767_225_600_000, updatedAt: 1_767_225_600_000 }

/** Starts the simulator. */
export async function startDemoProvider (): Promise<DemoProvider> {
  const clerk = await clerkSimulator({ issuer })
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
      secretKey: clerk.simulator.secretKey
    },
    token: await clerk.simulator.mintToken({ userId: id, lifetimeSeconds: 3600 }),
    stop: async () => { await clerk.close() }
  }
}
