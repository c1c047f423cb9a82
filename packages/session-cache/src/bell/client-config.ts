import pg from 'pg'
import { readConnection, type ConnectionReading } from '@orientor/session-contract/core'
import { UnusableConnection } from './unusable-connection.js'

/** The member in which node-postgres keeps what it made of a configuration, outside of its types. */
type Parsed = pg.Client & { readonly connectionParameters: object }

/** Reads a client configuration; what is given beside a connection string counts. */
export function readClientConfig (connection: pg.ClientConfig): ConnectionReading {
  return readConnection({ ...connection }, connectionString => {
    return (new pg.Client({ connectionString }) as Parsed).connectionParameters
  })
}

/**
 * A configuration without a connection string in it. The files that the string names are read anew each time.
 *
 * @throws UnusableConnection when the string breaks a rule, or a file that it names cannot be read
 */
export function clientConfig (connection: pg.ClientConfig): pg.ClientConfig {
  const reading = readClientConfig(connection)
  if (reading.kind === 'refused') throw new UnusableConnection(`The connection string ${reading.flaw}`)
  return reading.config
}
