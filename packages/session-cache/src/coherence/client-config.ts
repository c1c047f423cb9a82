import pg from 'pg'
import { readConnection, type ConnectionReading } from '@orientor/session-contract/core'
import { UnusableConnection } from './unusable-connection.js'

/** What a configuration says: what is given beside a connection string counts. */
export function readClientConfig (connection: pg.ClientConfig): ConnectionReading {
  return readConnection({ ...connection }, connectionString => (new pg.Client({ connectionString }) as pg.Client & { readonly connectionParameters: object }).connectionParameters)
}

/**
 * A configuration without a connection string in it. The files that the string names are read anew each time.
 *
 * @throws UnusableConnection
 */
export function clientConfig (connection: pg.ClientConfig): pg.ClientConfig {
  const reading = readClientConfig(connection)
  if (reading.kind === 'refused') throw new UnusableConnection(`The connection string ${reading.flaw}`)
  return reading.config
}
