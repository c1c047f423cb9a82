import pg from 'pg'
import { readConnection } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { connectionParameters } from './pg-pool-seam.js'

/** The target of a client configuration: the server, the database and the role, without the password. */
export interface ConnectionTarget {
  readonly role: string
  readonly database: string
  readonly host: string
  readonly port: number
  /** The parameters that pg made of connection string, options and environment together. */
  readonly parameters: Readonly<Record<string, unknown>>
  /** A sentence about a parameter of the connection string that pg ignores; null when there is none. */
  readonly advice: string | null
}

/**
 * A client's configuration without a connection string in it: what is given beside the string counts, and what is not
 * comes from the string. The files that it names are read anew each time.
 *
 * @throws ORI_POOL_INVALID_CONNECTION_STRING, which never shows the string
 */
export function clientConfig (
  config: pg.ClientConfig
): { readonly config: pg.ClientConfig, readonly advice: string | null } {
  const reading = readConnection({ ...config }, connectionString => {
    return connectionParameters(new pg.Client({ connectionString }))
  })
  if (reading.kind === 'refused') throw new errors.InvalidConnectionString(reading.flaw)
  return reading
}

/**
 * Reads a client configuration as pg will, before anything connects.
 *
 * @throws ORI_POOL_INVALID_CONNECTION_STRING, which never shows the string
 */
export function connectionTarget (given: pg.ClientConfig): ConnectionTarget {
  const { config, advice } = clientConfig(given)
  const client = new pg.Client(config)
  const { user, database, host, port } = client
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new errors.InvalidConnectionString('leads to a port that is no number from 0 to 65535.')
  }
  const parameters = connectionParameters(client)
  return { role: String(user), database: String(database), host, port, parameters, advice }
}
