import {
  invalidOption, objectWith, optional, readOptions, rule, type OptionRule, type OptionRules
} from '@orientor/session-contract/core'
import { errors } from '../errors.js'
import { UnusableConnection } from './unusable-connection.js'
import { bellOptionRules, type BellOptions } from './bell-options.js'
import type { Bell } from './bell.js'
import { ReconnectingBell, type BellConnection, type ConnectionReports } from './reconnecting-bell.js'

/** Options of a bell over Redis or Valkey. */
export interface RedisBellOptions extends BellOptions {
  /** `redis://user:password@host:port`, or `rediss://` for TLS. This or `connection`. */
  readonly url?: string
  /**
   * The same as `createClient()` of the npm package `redis` takes it, for certificates and for passwords that change
   * (`credentialsProvider`).
   */
  readonly connection?: object
}

const owner = '@orientor/session-cache/redis: redisBell'

type Input = { readonly [K in keyof RedisBellOptions]-?: RedisBellOptions[K] | undefined }
type Config = Required<BellOptions> & { readonly connection: { readonly url?: string, readonly socket?: object } }
type Redis = typeof import('redis')

const redisUrl: OptionRule<string> = rule(
  'redis://user:password@host:port or rediss://…, user and password percent-encoded, at most a number behind it',
  input => typeof input === 'string' && isRedisUrl(input) ? input : undefined,
  { secret: true }
)

const rules: OptionRules<Input> = {
  ...bellOptionRules,
  url: optional(redisUrl),
  connection: optional(objectWith<object>('the configuration of a client of the npm package "redis"', []))
}

/**
 * A bell over publish and subscribe of Redis or Valkey: two connections per instance, one that hears and one that
 * rings. Each ring costs the server about 12 µs of CPU per instance. Channels are common to all databases of a server,
 * so each service needs a `channel` of its own.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received. Its start() rejects with
 * ORI_CACHE_NO_REDIS where the npm package `redis` is not installed.
 */
export function redisBell (options: RedisBellOptions): Bell {
  const config = configOf(options)
  const { checkIntervalMs, timeoutMs, clock, random } = config
  let redis: Redis
  return new ReconnectingBell({
    name: 'redis',
    prepare: async () => { redis = await loadRedis() },
    connect: reports => new RedisConnection(redis, config, reports),
    reasonOf,
    checkIntervalMs,
    timeoutMs,
    clock,
    random
  })
}

function configOf (options: RedisBellOptions): Config {
  const { url, connection, ...rest } = readOptions<Input>(owner, options, rules)
  if ((url === undefined) === (connection === undefined)) {
    throw invalidOption(owner, 'give either "url" or "connection".')
  }
  return { ...rest as Required<BellOptions>, connection: connection ?? { url: url! } }
}

function isRedisUrl (text: string): boolean {
  try {
    const { protocol, hostname, username, password, pathname } = new URL(text)
    decodeURIComponent(`${username}${password}`)
    return /^rediss?:$/.test(protocol) && hostname !== '' && /^(?:\/\d*)?$/.test(pathname)
  } catch {
    return false
  }
}

async function loadRedis (): Promise<Redis> {
  try {
    return await import('redis')
  } catch (cause) {
    throw new errors.NoRedis({ cause })
  }
}

/**
 * A client that never reconnects by itself, so that each loss is told. RESP 2 is understood by every server and proxy.
 */
function clientOf ({ createClient }: Redis, { connection, timeoutMs }: Config) {
  // The client writes into what it is given.
  const socket = { ...connection.socket, reconnectStrategy: false as const, connectTimeout: timeoutMs }
  try {
    return createClient({ ...connection, RESP: 2, disableOfflineQueue: true, socket })
  } catch {
    throw new UnusableConnection('The npm package "redis" refuses what is given as "connection"')
  }
}

type Client = ReturnType<typeof clientOf>

/** A connection that subscribes and one that publishes, which are lost together. */
class RedisConnection implements BellConnection {
  readonly #channel: string
  readonly #heard: (message: string) => void
  readonly #subscriber: Client
  readonly #publisher: Client
  #isCut = false

  constructor (redis: Redis, config: Config, { heard, down }: ConnectionReports) {
    this.#channel = config.channel
    this.#heard = heard
    this.#subscriber = clientOf(redis, config)
    this.#publisher = clientOf(redis, config)
    // An error without a listener ends the process.
    for (const client of this.#clients) client.on('error', down)
  }

  get #clients (): readonly Client[] {
    return [this.#subscriber, this.#publisher]
  }

  async open (): Promise<null> {
    await Promise.all(this.#clients.map(async client => {
      await client.connect()
      // A client that is destroyed while it connects goes on connecting.
      if (this.#isCut) client.destroy()
    }))
    await this.#subscriber.subscribe(this.#channel, this.#heard)
    return null
  }

  async ring (message: string): Promise<void> {
    await this.#publisher.publish(this.#channel, message)
  }

  async check (): Promise<void> {
    await Promise.all(this.#clients.map(client => client.ping()))
  }

  async close (): Promise<void> {
    this.cut()
  }

  cut (): void {
    this.#isCut = true
    for (const client of this.#clients) client.destroy()
  }
}

const refusals: Readonly<Record<string, string>> = {
  WRONGPASS: 'user or password are not accepted (WRONGPASS). Give the bell the current ones',
  NOAUTH: 'a password is wanted (NOAUTH). Write it into the url: redis://user:password@host:port',
  NOPERM: 'the user may not do what a bell does (NOPERM). Let it: ACL SETUSER … +ping +subscribe +publish ' +
    '&channel, with the channel of the bell'
}

/** A failure in words that hold no secret: a message can name hosts, and quote what was sent. */
function reasonOf (error: unknown): string {
  if (error instanceof UnusableConnection) return error.message
  const { code, message } = (error ?? {}) as { readonly code?: unknown, readonly message?: unknown }
  const said = typeof message === 'string' ? /^[A-Z]{3,20}(?= )/.exec(message)?.[0] : undefined
  if (said !== undefined) return `Redis refuses: ${refusals[said] ?? `it answers ${said}`}`
  return `The connection failed${typeof code === 'string' && /^\w{1,40}$/.test(code) ? ` (${code})` : ''}`
}
