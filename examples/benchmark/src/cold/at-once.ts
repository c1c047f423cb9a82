import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** The answers to requests that were sent at once. */
export interface AnswersAtOnce {
  /** The number of answers by status; 0 stands for a connection that ended without one. */
  readonly statuses: ReadonlyMap<number, number>
  /** One per answer, in milliseconds, from the sending of the first request. */
  readonly times: readonly number[]
}

/** An app, and what it is asked. */
export interface AskedApp {
  readonly port: number
  /** One per request. */
  readonly tokens: readonly string[]
}

/** Connections that are opened together: fewer than fit into the queue from which an app accepts them (somaxconn). */
const openedTogether = 100

/** A connection, and the request that is to go over it. */
interface Line {
  readonly socket: Socket
  readonly request: string
}

/**
 * Sends `GET /me` once per token, each over a connection of its own, to all apps at the same time: connections are open
 * before the first request is sent. With as little of an HTTP client as will do, which is one process for thousands.
 */
export async function askAtOnce (apps: readonly AskedApp[]): Promise<AnswersAtOnce> {
  const lines: Line[][] = []
  try {
    for (const app of apps) lines.push(await openLines(app))
    const statuses = new Map<number, number>()
    const times: number[] = []
    const begunMs = performance.now()
    // One request to each app, then the next: none is asked before the others.
    const longest = Math.max(...lines.map(({ length }) => length))
    const inTurn = Array.from({ length: longest }, (_, index) => lines.flatMap(own => own.slice(index, index + 1)))
    await Promise.all(inTurn.flat().map(async ({ socket, request }) => {
      const status = await answerOf(socket, request)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      times.push(performance.now() - begunMs)
    }))
    return { statuses, times }
  } finally {
    for (const { socket } of lines.flat()) socket.destroy()
  }
}

async function openLines ({ port, tokens }: AskedApp): Promise<Line[]> {
  const lines: Line[] = []
  for (let start = 0; start < tokens.length; start += openedTogether) {
    const group = tokens.slice(start, start + openedTogether)
    lines.push(...await Promise.all(group.map(async token => {
      return { socket: await opened(port), request: requestFor('/me', `authorization: Bearer ${token}\r\n`) }
    })))
    // Connections are accepted in their order: with an answer on a later one, these are.
    await answerOf(await opened(port), requestFor('/', ''))
  }
  return lines
}

async function opened (port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  await once(socket, 'connect')
  return socket
}

function requestFor (path: string, headers: string): string {
  return `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n${headers}connection: close\r\n\r\n`
}

/** Resolves with the status, once the app has closed the connection. */
function answerOf (socket: Socket, request: string): Promise<number> {
  return new Promise(resolve => {
    let head = ''
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => { if (head.length < 12) head += text })
    socket.on('error', () => {})
    socket.on('close', () => { resolve(/^HTTP\/1\.1 \d{3}/.test(head) ? Number(head.slice(9, 12)) : 0) })
    socket.write(request)
  })
}
