import { clerkSimulator } from '@orientor/clerk-simulator'

/** A user and a token that is good whatever the wall clock does within hours. */
export interface Person {
  readonly subject: string
  readonly authorization: string
}

/** Users of a simulated identity provider. */
export interface People {
  readonly issuer: string
  readonly jwksUrl: string
  readonly list: readonly Person[]
  stop (): Promise<void>
}

const hourSeconds = 3600

/** Starts a provider on a loopback address, with so many users. */
export async function startPeople (count: number): Promise<People> {
  const clerk = await clerkSimulator()
  await clerk.listen({ host: '127.0.0.1', port: 0 })
  const nowSeconds = Math.floor(Date.now() / 1000)
  const claims = { iat: nowSeconds - 3 * hourSeconds, nbf: nowSeconds - 3 * hourSeconds, exp: nowSeconds + 12 * hourSeconds }
  const list = await Promise.all(Array.from({ length: count }, async () => {
    const { id } = await clerk.simulator.createUser()
    return { subject: id, authorization: `Bearer ${await clerk.simulator.mintToken({ userId: id, claims })}` }
  }))
  return { issuer: clerk.simulator.issuer, jwksUrl: clerk.simulator.jwksUrl, list, stop: async () => { await clerk.close() } }
}
