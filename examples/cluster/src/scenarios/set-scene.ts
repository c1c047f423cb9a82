import {
  postgresFaults, spareServer, startPgBouncer, testDatabase, testServer,
  type PostgresFaults, type PostgresServer, type Teardown, type TestDatabase
} from '@orientor/test-kit'
import pg from 'pg'
import { startCluster, type Cluster, type Profile } from '../harness/index.js'
import type { Scenario, Spare } from './scenario.js'

/** The cluster, and the servers, that a scenario is played on. */
export interface Scene {
  readonly cluster: Cluster
  readonly faults: PostgresFaults
  readonly server: PostgresServer
  readonly spare: PostgresServer | null
}

/** The needs of a scenario, as a scene meets them. */
export type Needs = Pick<Scenario, 'hearing' | 'throughPgBouncer' | 'server' | 'spare' | 'firstOptions'>

const spareParameters: Readonly<Record<Spare, Readonly<Record<string, string>>>> = {
  following: {},
  lagging: { recovery_min_apply_delay: '500ms' },
  copy: {}
}

/** Starts the servers and the cluster that a scenario needs; they end with the test. */
export async function setScene (t: Teardown, needs: Needs, profile: Profile): Promise<Scene> {
  const { hearing, throughPgBouncer, server: parameters, spare: kind, firstOptions } = needs
  const isShared = parameters === undefined && kind === undefined
  const { server, url } = isShared ? await testDatabase(t) : await ownDatabase(t, parameters)
  const standby = kind === undefined || kind === 'copy' ? null : await spareOf(t, server, kind)
  await standby?.start()
  if (kind === 'following') await waitForStandby(server)
  const faults = postgresFaults(t, { server, url })
  const cluster = await startCluster({
    databaseUrl: url,
    ...hearing !== undefined && { hearing },
    ...firstOptions !== undefined && { firstOptions },
    ...throughPgBouncer === true && { poolUrl: await startPgBouncer(t, url, { max_client_conn: '200' }) },
    profile
  })
  t.teardown(() => cluster.stop())
  // A copy has what the instances made at their start.
  return { cluster, faults, server, spare: kind === 'copy' ? await spareOf(t, server, kind) : standby }
}

async function spareOf (t: Teardown, server: PostgresServer, kind: Spare): Promise<PostgresServer> {
  const spare = await spareServer(server, { follows: kind !== 'copy', parameters: spareParameters[kind] })
  t.teardown(() => spare.stop())
  return spare
}

async function ownDatabase (t: Teardown, parameters: Scenario['server'] = {}): Promise<TestDatabase> {
  const server = await testServer(t, parameters)
  return { server, url: await server.createDatabase('cluster') }
}

/** From now on no commit is acknowledged, nor seen, before the standby has it. */
async function waitForStandby (server: PostgresServer): Promise<void> {
  const client = new pg.Client({ connectionString: server.url() })
  await client.connect()
  await client.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
  await client.query('SELECT pg_reload_conf()')
  await client.end()
}
