import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** When a run ends: after so many requests, or so long, in milliseconds. */
export interface RunLimit {
  readonly requests?: number
  readonly durationMs?: number
}

/** Told of every answer: which request it was, in the order of sending, and the body. */
export type OnBody = (request: number, body: string) => void

/**
 * A load over kept-alive connections, one request at a time on each, with as little of an HTTP client as will do: requests are bytes made
 * beforehand, answers have a `content-length`. Costs about half of what the app does, so one core is enough to keep another busy.
 */
export class RawLoad {
  readonly #lines: readonly Line[]

  private constructor (lines: readonly Line[]) {
    this.#lines = lines
  }

  static async open (port: number, connections: number): Promise<RawLoad> {
    const sockets = Array.from({ length: connections }, () => connect({ host: '127.0.0.1', port, noDelay: true }))
    await Promise.all(sockets.map(socket => once(socket, 'connect')))
    return new RawLoad(sockets.map(socket => new Line(socket)))
  }

  /**
   * Sends what `next` gives until the limit is reached, and waits for the last answer.
   *
   * @returns the number of answers
   * @throws when one is not 200, or a connection ends
   */
  async run (next: () => Buffer, { requests = Infinity, durationMs = Infinity }: RunLimit, onBody: OnBody | null = null): Promise<number> {
    const until = performance.now() + durationMs
    let sent = 0
    const more = (): Buffer | null => {
      if (sent >= requests || performance.now() >= until) return null
      sent++
      return next()
    }
    await Promise.all(this.#lines.map(line => line.run(more, () => sent - 1, onBody)))
    return sent
  }

  close (): void {
    for (const line of this.#lines) line.close()
  }
}

/** One connection. */
class Line {
  readonly #socket: Socket
  #received = ''
  #answered: (text: string, end: number) => void = () => {}
  #failed: (error: Error) => void = () => {}

  constructor (socket: Socket) {
    this.#socket = socket
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => { this.#take(text) })
    socket.on('error', error => { this.#failed(error) })
    socket.on('close', () => { this.#failed(new Error('The app closed a connection')) })
  }

  run (more: () => Buffer | null, number: () => number, onBody: OnBody | null): Promise<void> {
    return new Promise((resolve, reject) => {
      let request = 0
      const send = (): void => {
        const bytes = more()
        if (bytes === null) {
          resolve()
          return
        }
        request = number()
        this.#socket.write(bytes)
      }
      this.#failed = reject
      this.#answered = (text, bodyAt) => {
        if (!text.startsWith('HTTP/1.1 200 ')) {
          reject(new Error(`An answer was not 200: ${text.slice(0, 200)}`))
          return
        }
        onBody?.(request, text.slice(bodyAt))
        send()
      }
      send()
    })
  }

  close (): void {
    this.#failed = () => {}
    this.#socket.destroy()
  }

  #take (text: string): void {
    const all = this.#received + text
    const end = all.indexOf('\r\n\r\n')
    const at = end < 0 ? -1 : all.indexOf('content-length: ')
    if (end < 0 || all.length < end + 4 + (at < 0 ? 0 : Number.parseInt(all.slice(at + 16), 10))) {
      this.#received = all
      return
    }
    this.#received = ''
    this.#answered(all, end + 4)
  }
}
