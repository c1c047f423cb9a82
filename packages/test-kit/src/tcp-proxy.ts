import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/**
 * What the proxy does, with the connections that are open and with new ones:
 *
 * - `pass`: everything goes through
 * - `stall`: bytes are held, and delivered when the mode changes, as TCP does through a partition that heals
 * - `black hole`: bytes vanish, nothing is closed; `… to server` and `… to client` do so in one direction only
 * - `refuse`: nobody listens, so new connections are refused; open ones go on
 * - `reset`: new connections are accepted and reset at once; open ones go on
 */
export type ProxyMode = 'pass' | 'stall' | 'black hole' | 'black hole to server' | 'black hole to client' | 'refuse' | 'reset'

/** The way of bytes through the proxy. */
export type ProxyDirection = 'to server' | 'to client'

/** What was injected and seen so far. */
export interface ProxyCounts {
  readonly accepted: number
  /** New connections that were reset by the mode `reset`. */
  readonly refused: number
  /** Connections that were open when `reset()` was called. */
  readonly cut: number
  readonly open: number
  readonly swallowedBytes: number
}

interface Parcel { readonly chunk: Buffer | null, readonly dueAtMs: number }

/** The bytes of one connection in one direction, in order whatever the delay does. */
class Lane {
  readonly #proxy: TcpProxy
  readonly #to: Socket
  readonly #direction: ProxyDirection
  readonly #parcels: Parcel[] = []
  #timer: NodeJS.Timeout | null = null
  /** Bytes of this lane have vanished: later ones would make no sense to whoever reads them. */
  isSilent = false

  constructor (proxy: TcpProxy, from: Socket, to: Socket, direction: ProxyDirection) {
    this.#proxy = proxy
    this.#to = to
    this.#direction = direction
    from.on('data', chunk => { this.#take(chunk as Buffer) })
    from.on('end', () => { this.#take(null) })
  }

  /** Sends what is due; with `stall` nothing is. */
  deliver (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    while (this.#parcels.length > 0 && this.#proxy.mode !== 'stall') {
      const [{ chunk, dueAtMs }] = this.#parcels as [Parcel]
      const waitMs = dueAtMs - performance.now()
      if (waitMs > 0) {
        this.#timer = setTimeout(() => { this.deliver() }, waitMs)
        return
      }
      this.#parcels.shift()
      if (chunk === null) this.#to.end()
      else this.#to.write(chunk)
    }
  }

  #take (chunk: Buffer | null): void {
    if (this.isSilent || this.#proxy.swallows(this.#direction)) {
      this.isSilent = true
      this.#proxy.swallowed(chunk?.length ?? 0)
      return
    }
    this.#parcels.push({ chunk, dueAtMs: performance.now() + this.#proxy.delayMs })
    this.deliver()
  }
}

interface Pair { readonly near: Socket, readonly far: Socket, readonly toServer: Lane, readonly toClient: Lane }

/** A TCP proxy on 127.0.0.1 whose faults a test controls while bytes flow. */
export class TcpProxy {
  readonly #server: Server
  readonly #pairs = new Set<Pair>()
  #target: { readonly port: number, readonly host: string }
  #port = 0
  #mode: ProxyMode = 'pass'
  #accepted = 0
  #refused = 0
  #cut = 0
  #swallowedBytes = 0
  /** Delay of every chunk in both directions, in milliseconds. */
  delayMs = 0

  /** Use startTcpProxy(). */
  constructor (target: { readonly port: number, readonly host: string }) {
    this.#target = target
    this.#server = createServer({ allowHalfOpen: true }, near => { this.#accept(near) })
  }

  get port (): number {
    return this.#port
  }

  get counts (): ProxyCounts {
    return { accepted: this.#accepted, refused: this.#refused, cut: this.#cut, open: this.#pairs.size, swallowedBytes: this.#swallowedBytes }
  }

  /** The local ports of the connections to the server that are open now: how the server knows them. */
  get serverPorts (): readonly number[] {
    return [...this.#pairs].flatMap(({ far: { localPort } }) => localPort === undefined ? [] : [localPort])
  }

  get mode (): ProxyMode {
    return this.#mode
  }

  set mode (mode: ProxyMode) {
    this.#mode = mode
    if (mode === 'refuse') this.#server.close()
    else if (!this.#server.listening) this.#server.listen(this.#port, '127.0.0.1')
    for (const { toServer, toClient } of this.#pairs) {
      toServer.deliver()
      toClient.deliver()
    }
  }

  /** Leads new connections somewhere else, as a failover does behind one address; open ones stay. */
  retarget (port: number, host: string = '127.0.0.1'): void {
    this.#target = { port, host }
  }

  /** The same connection string, through the proxy. */
  through (url: string): string {
    const address = new URL(url)
    address.hostname = '127.0.0.1'
    address.port = String(this.#port)
    return address.href
  }

  async start (): Promise<void> {
    await new Promise<void>((resolve, reject) => { this.#server.once('error', reject).listen(0, '127.0.0.1', () => { resolve() }) })
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Makes the connections that are open now half-open for good: their bytes vanish and nothing is closed. Later ones pass. */
  silence (direction: ProxyDirection | 'both' = 'both'): void {
    for (const { toServer, toClient } of this.#pairs) {
      if (direction !== 'to client') toServer.isSilent = true
      if (direction !== 'to server') toClient.isSilent = true
    }
  }

  /** Resets every open connection (RST). */
  reset (): void {
    for (const { near, far } of this.#pairs) {
      this.#cut++
      reset(near)
      reset(far)
    }
    this.#pairs.clear()
  }

  async stop (): Promise<void> {
    this.reset()
    if (this.#server.listening) await new Promise(resolve => { this.#server.close(resolve) })
  }

  /** Whether the mode makes bytes of this direction vanish. */
  swallows (direction: ProxyDirection): boolean {
    return this.#mode === 'black hole' || this.#mode === `black hole ${direction}`
  }

  /** Notes bytes that vanished. */
  swallowed (bytes: number): void {
    this.#swallowedBytes += bytes
  }

  #accept (near: Socket): void {
    near.on('error', () => {})
    if (this.#mode === 'reset') {
      this.#refused++
      reset(near)
      return
    }
    this.#accepted++
    const far = connect({ ...this.#target, allowHalfOpen: true })
    far.on('error', () => {})
    for (const socket of [near, far]) socket.setNoDelay(true)
    const pair = { near, far, toServer: new Lane(this, near, far, 'to server'), toClient: new Lane(this, far, near, 'to client') }
    this.#pairs.add(pair)
    // What a silent lane does not tell, its end does not tell either.
    near.once('close', () => { this.#closed(pair, far, pair.toServer, 'to server') })
    far.once('close', () => { this.#closed(pair, near, pair.toClient, 'to client') })
  }

  #closed (pair: Pair, other: Socket, lane: Lane, direction: ProxyDirection): void {
    // Each socket of a pair that was reset ends by itself.
    if (!this.#pairs.has(pair)) return
    if (lane.isSilent || this.swallows(direction)) lane.isSilent = true
    else other.destroy()
    if (pair.near.destroyed && pair.far.destroyed) this.#pairs.delete(pair)
  }
}

/**
 * Closes a socket with an RST. Not while its end is being sent: then Node.js 20 refuses the RST and never closes the socket, and the process turns in a
 * circle for ever when it should exit.
 */
function reset (socket: Socket): void {
  const isEnding = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0
  if (isEnding) socket.once('finish', () => { socket.resetAndDestroy() })
  else socket.resetAndDestroy()
}

/** Starts a proxy to the port. */
export async function startTcpProxy (port: number, host: string = '127.0.0.1'): Promise<TcpProxy> {
  const proxy = new TcpProxy({ port, host })
  await proxy.start()
  return proxy
}
