import type { Server } from 'node:http'

/**
 * Tells clients on kept-alive connections to go: every answer from now on closes its connection. Resolves when none is left, or after
 * `withinMs`. A server that merely closes cuts connections between two requests, also those on which the next one is already under way.
 */
export async function drain (server: Server, withinMs: number): Promise<void> {
  server.prependListener('request', (_request, response) => { response.setHeader('connection', 'close') })
  const deadline = performance.now() + withinMs
  while (performance.now() < deadline && await connections(server) > 0) {
    await new Promise(resolve => { setTimeout(resolve, 10) })
  }
}

function connections (server: Server): Promise<number> {
  return new Promise(resolve => { server.getConnections((error, count) => { resolve(error === null ? count : 0) }) })
}
