import pg from 'pg'
import { errors } from './errors.js'
import { connectionParameters } from './pg-pool-seam.js'

/** Where a configuration leads, without its password. */
export interface ConnectionTarget {
  readonly role: string
  readonly database: string
  readonly host: string
  readonly port: number
  /** What pg made of connection string, options and environment together. */
  readonly parameters: Readonly<Record<string, unknown>>
}

/**
 * Reads a client configuration as pg will, before anything connects.
 *
 * @throws ORI_POOL_INVALID_CONNECTION_STRING, which never shows the string
 */
export function connectionTarget (config: pg.ClientConfig): ConnectionTarget {
  const { connectionString } = config
  if (connectionString !== undefined) {
    const scheme = /^(?:postgres(?:ql)?:\/\/|socket:|\/)/i.test(connectionString)
    if (!scheme) throw new errors.InvalidConnectionString('does not begin with postgres:// or postgresql://')
    if (/^postgres/i.test(connectionString) && /^[^?]*#/.test(connectionString)) throw new errors.InvalidConnectionString('has a bare "#"')
  }
  let client: pg.Client
  try {
    client = new pg.Client(config)
  } catch {
    // The cause holds the string itself.
    throw new errors.InvalidConnectionString('cannot be parsed')
  }
  if (!Number.isInteger(client.port) || client.port < 0 || client.port > 65_535) throw new errors.InvalidConnectionString('has a port that is no number from 0 to 65535')
  return { role: String(client.user), database: String(client.database), host: client.host, port: client.port, parameters: connectionParameters(client) }
}
