import type { ClientLike, PoolLike } from '@orientor/session-contract/core'

type Callback = (error: Error | undefined | null, client?: ClientLike) => void

/**
 * Acquires a connection whose errors do not end the process. A pg.Pool takes its own listener off as it lends one, and a promise tells
 * of the loan a turn later: where PostgreSQL ends the session in between, the event has no listener, and the process ends.
 * So the connection is asked for with a callback; a pool that knows none answers with a promise.
 *
 * The listener goes with forgetErrors(), before the connection is given back.
 */
export function acquireClient (pool: PoolLike): Promise<ClientLike> {
  return new Promise((resolve, reject) => {
    const take = (client: ClientLike): void => {
      client.on('error', ignore)
      resolve(client)
    }
    const connect = pool.connect.bind(pool) as unknown as (callback: Callback) => Promise<ClientLike> | undefined
    const promised = connect((error, client) => {
      if (client !== undefined) take(client)
      else reject(error ?? new Error('The pool gave no connection'))
    })
    promised?.then(take, reject)
  })
}

/** Takes the listener of acquireClient() off. */
export function forgetErrors (client: ClientLike): void {
  client.off('error', ignore)
}

function ignore (): void {}
