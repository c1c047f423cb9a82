import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/** What the proxy does with bytes and with new connections. */
export type ProxyMode = 'pass' | 'black hole' | 'refuse'

interface Pair { readonly near: Socket, readonly far: Socket }

/** A TCP proxy on 127.0.0.1 whose faults a test controls. */
export class TcpProxy {
  readonly #server: Server
  readonly #pairs = new Set<Pair>()
  readonly #target: { readonly port: number, readonly host: string }
  #mode: ProxyMode = 'pass'
  #accepted = 0
  #refused = 0
  #swallowedBytes = 0
  /** Delay of every chunk in both directions, in milliseconds. */
  delayMs = 0

  /** Use startTcpProxy(). */
  constructor (target: { readonly port: number, readonly host: string }) {
    this.#target = target
    this.#server = createServer(near => { this.#accept(near) })
  }

  get port (): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** What was injected and seen so far. */
  get counts (): { readonly accepted: number, readonly refused: number, readonly open: number, readonly swallowedBytes: number } {
    return { accepted: this.#accepted, refused: this.#refused, open: this.#pairs.size, swallowedBytes: this.#swallowedBytes }
  }

  async start (): Promise<void> {
    await new Promise<void>((resolve, reject) => { this.#server.once('error', reject).listen(0, '127.0.0.1', () => { resolve() }) })
  }

  /** `pass`; `black hole`: bytes vanish, nothing is closed; `refuse`: new connections are reset, old ones go on. */
  set mode (mode: ProxyMode) {
    this.#mode = mode
  }

  get mode (): ProxyMode {
    return this.#mode
  }

  /** Makes the connections that are open now go silent for good; later ones pass. */
  silence (): void {
    for (const { near, far } of this.#pairs) {
      near.removeAllListeners('data').on('data', chunk => { this.#swallowedBytes += chunk.length })
      far.removeAllListeners('data').on('data', chunk => { this.#swallowedBytes += chunk.length })
      near.removeAllListeners('end')
      far.removeAllListeners('end')
    }
  }

  /** Resets every open connection (RST). */
  reset (): void {
    for (const { near, far } of this.#pairs) {
      near.resetAndDestroy()
      far.resetAndDestroy()
    }
  }

  async stop (): Promise<void> {
    this.reset()
    await new Promise(resolve => { this.#server.close(resolve) })
  }

  #accept (near: Socket): void {
    near.on('error', () => {})
    if (this.#mode === 'refuse') {
      this.#refused++
      near.resetAndDestroy()
      return
    }
    this.#accepted++
    const far = connect({ ...this.#target, allowHalfOpen: true })
    far.on('error', () => {})
    const pair = { near, far }
    this.#pairs.add(pair)
    this.#pipe(near, far)
    this.#pipe(far, near)
    const end = (): void => {
      this.#pairs.delete(pair)
      near.destroy()
      far.destroy()
    }
    near.once('close', end)
    far.once('close', end)
  }

  #pipe (from: Socket, to: Socket): void {
    from.on('data', chunk => {
      if (this.#mode === 'black hole') {
        this.#swallowedBytes += chunk.length
        return
      }
      if (this.delayMs === 0) to.write(chunk)
      else setTimeout(() => { to.write(chunk) }, this.delayMs)
    })
    from.on('end', () => { if (this.#mode !== 'black hole') to.end() })
  }
}

/** Starts a proxy to the port. */
export async function startTcpProxy (port: number, host: string = '127.0.0.1'): Promise<TcpProxy> {
  const proxy = new TcpProxy({ port, host })
  await proxy.start()
  return proxy
}
