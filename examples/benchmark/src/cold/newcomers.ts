import type { ClerkSimulatorApp } from '@orientor/clerk-simulator'

/** Signs up users at the provider who have no row anywhere yet; resolves with a token of each. */
export async function newcomers (clerk: ClerkSimulatorApp, count: number): Promise<readonly string[]> {
  const tokens: string[] = []
  const { simulator } = clerk
  for (let user = 0; user < count; user++) {
    const email = `user-${user}@example.com`
    const { id } = await simulator.createUser({ firstName: 'User', lastName: String(user), email })
    tokens.push(await simulator.mintToken({ userId: id, lifetimeSeconds: 7200 }))
  }
  return tokens
}

/** The number of times that the provider was asked for users, since its start. */
export function providerCalls (clerk: ClerkSimulatorApp): number {
  return Object.entries(clerk.simulator.requestCounts)
    .reduce((sum, [route, count]) => route.startsWith('GET /v1/users') ? sum + count : sum, 0)
}
