import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { freePort } from '../free-port.js'
import { copyCluster, dataOf, temporaryFolder } from './cluster-folder.js'
import { PostgresServer } from './postgres-server.js'

/** Options of a spare server. */
export interface SpareOptions {
  /** Whether it is a standby that streams from the first one. Default is false: it goes its own way. */
  readonly follows?: boolean
  /** Settings of postgresql.conf by name, in place of those of the first one or beside them. Default is none. */
  readonly parameters?: Readonly<Record<string, string>>
}

/**
 * A second server on a cold copy of the data of a first one, which is stopped for that and started again. It has the
 * same password and system identifier, and does not run yet: start() does that.
 */
export async function spareServer (server: PostgresServer, options: SpareOptions = {}): Promise<PostgresServer> {
  const { follows = false, parameters = {} } = options
  await server.kill('SIGINT')
  const folder = temporaryFolder(dirname(server.folder))
  copyCluster(server.folder, folder)
  if (follows) writeFileSync(join(dataOf(folder), 'standby.signal'), '')
  await server.start()
  const { hostname, port, username, password } = new URL(server.url())
  const primary = `host=${hostname} port=${port} user=${username} password=${password}`
  const following = follows ? { primary_conninfo: primary, hot_standby: 'on' } : {}
  return new PostgresServer(folder, true, await freePort(), { ...server.parameters, ...following, ...parameters })
}
