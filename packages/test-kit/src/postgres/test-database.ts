import type { PostgresServer } from './postgres-server.js'
import { startTestServer } from './test-server.js'

/** A fresh, empty database. */
export interface TestDatabase {
  /** Connection string of the superuser. */
  readonly url: string
  readonly server: PostgresServer
}

/** What is needed of a test: tap's `t` has it. */
export interface Teardown { teardown (callback: () => unknown): void }

let shared: Promise<PostgresServer> | null = null

/** A database of its own for one test, dropped when the test ends, on a server that all tests of this process share, may break, and that ends with it. */
export async function testDatabase (t: Teardown): Promise<TestDatabase> {
  shared ??= startTestServer()
  const server = await shared
  const url = await server.createDatabase()
  t.teardown(async () => {
    if (server.pid !== null) await server.dropDatabase(new URL(url).pathname.slice(1))
  })
  return { url, server }
}
