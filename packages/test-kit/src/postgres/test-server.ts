import { statfsSync } from 'node:fs'
import { temporaryFolder } from './cluster-folder.js'
import { serve, type PostgresOptions, type PostgresServer } from './postgres-server.js'
import { fillWithCluster } from './template-cluster.js'
import type { Teardown } from './test-database.js'

const memory = '/dev/shm'
const minFreeBytes = 2 * 2 ** 30

/**
 * Starts a server for tests alone: without fsync, so that it survives kill -9 of its processes and no crash of the machine; its files in memory where there
 * is room. All such servers are copies of one: a test about passwords or system identifiers takes startPostgres().
 *
 * @param options - `parameters` are added to those of every test server
 */
export async function startTestServer ({ parameters, ...options }: Omit<PostgresOptions, 'folder'> = {}): Promise<PostgresServer> {
  const folder = hasRoom(memory) ? temporaryFolder(memory) : temporaryFolder()
  fillWithCluster(folder)
  const usual = { fsync: 'off', full_page_writes: 'off', shared_preload_libraries: 'pg_stat_statements', max_connections: '200' }
  return await serve(folder, true, { ...options, parameters: { ...usual, ...parameters } })
}

/** A server of its own for one test, which ends with the test. */
export async function testServer (t: Teardown, parameters: Readonly<Record<string, string>> = {}): Promise<PostgresServer> {
  const server = await startTestServer({ parameters })
  t.teardown(() => server.stop())
  return server
}

function hasRoom (folder: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(folder)
    return bavail * bsize >= minFreeBytes
  } catch {
    return false
  }
}
