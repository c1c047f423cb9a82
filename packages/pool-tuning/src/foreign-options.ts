import { describe, invalidOption } from '@orientor/session-contract/core'

const owner = '@orientor/pool-tuning'
/** Options of pg-pool, and what takes their place here. */
const poolOptions: Readonly<Record<string, string>> = {
  min: 'write minConnections',
  poolSize: 'write size and overflow',
  idleTimeoutMillis: 'write overflowIdleMs, after which a connection above size is closed; those within size are kept',
  maxLifetimeSeconds: 'write recycleMs, in milliseconds',
  maxUses: 'connections are replaced by their age: write recycleMs',
  allowExitOnIdle: 'close the app; its connections keep the process alive until then',
  verify: 'write onConnect, an asynchronous function',
  log: 'write echoSql',
  Client: 'the client is that of pg'
}
/** Options of @fastify/postgres, and what takes their place here. */
const pluginOptions: Readonly<Record<string, string>> = {
  name: 'there is one pool in a scope: register it once more in a child scope',
  native: 'pg-native is not supported',
  pg: 'the driver is the pg that this package finds'
}
/** Options of a pg client, which @fastify/postgres takes beside its own. */
const clientOptions: ReadonlySet<string> = new Set([
  'host', 'port', 'user', 'password', 'database', 'ssl', 'sslnegotiation', 'application_name', 'options', 'types',
  'keepAlive', 'keepAliveInitialDelayMillis', 'client_encoding', 'query_timeout', 'statement_timeout', 'lock_timeout',
  'idle_in_transaction_session_timeout', 'connectionTimeoutMillis', 'pipeline', 'stream'
])

/**
 * Refuses options that are those of @fastify/postgres and pg-pool, by name, with what to write here: ignored, they
 * would change a service without a word.
 *
 * @param path - the place where they stand: empty, or `client.`
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, what was received, and what to write in its place
 */
export function refuseForeign (given: Readonly<Record<string, unknown>>, path: '' | 'client.'): void {
  for (const [name, value] of Object.entries(given)) {
    const ofPlugin = path === '' ? pluginOptions[name] ?? insteadOfClient(name) : undefined
    const instead = insteadOfPool(name, value) ?? ofPlugin
    if (instead === undefined) continue
    const received = describe(value, clientOptions.has(name))
    throw invalidOption(owner,
      `option "${path}${name}" is not known here; received ${received}. In its place: ${instead}.`)
  }
}

function insteadOfPool (name: string, value: unknown): string | undefined {
  return name === 'max' ? insteadOfMax(value) : poolOptions[name]
}

function insteadOfMax (value: unknown): string {
  const most = typeof value === 'number' && Number.isInteger(value) && value > 0 ? value : 10
  const [size, overflow] = [Math.ceil(most / 2), Math.floor(most / 2)]
  return 'connections are counted by size, which are kept, and overflow, which are opened above it while there is ' +
    `need. For at most ${most} write for example size: ${size}, overflow: ${overflow}`
}

function insteadOfClient (name: string): string | undefined {
  return clientOptions.has(name) ? `write it inside client: { ${name}: … }` : undefined
}
