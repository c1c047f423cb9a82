import type pg from 'pg'
import { throwLater } from './throw-later.js'

/** How a statement is answered to who uses callbacks. */
export type QueryCallback = (error: Error | null, result?: unknown) => void

/** What submits itself to a connection: query objects, cursors, streams. */
export interface Submittable {
  submit: unknown
  callback?: QueryCallback
  handleError? (error: Error, connection: unknown): void
  once? (event: string, listener: (error?: Error) => void): void
  emit? (event: string, error: Error): boolean
}

export function isSubmittable (input: unknown): input is Submittable {
  return typeof input === 'object' && input !== null && typeof (input as { submit?: unknown }).submit === 'function'
}

/**
 * Runs it on a connection that is given back when it has ended, however that is told: a cursor answers by its events, a query object by its callback.
 * Never sent again, since rows may have been seen.
 */
export function submit (checkout: () => Promise<pg.PoolClient>, statement: Submittable, callback: QueryCallback | undefined): void {
  const given = callback ?? statement.callback
  checkout().then(client => {
    let over = false
    let isTold = false
    const end = (release: Error | boolean | undefined): void => {
      over = true
      // Where there is a time limit, client.query() put its own callback here, which alone ends that.
      if (statement.callback !== finish) statement.callback?.(null)
      client.release(release)
    }
    const finish: QueryCallback = (error, result) => {
      if (over) return
      end(error ?? undefined)
      if (given !== undefined) given(error ?? null, result)
      else if (!isTold && error !== null && error !== undefined) statement.emit?.('error', error)
    }
    statement.once?.('end', () => { finish(null) })
    // client.query() with a time limit hides the events of errors.
    statement.once?.('error', error => {
      isTold = true
      finish(error!)
    })
    // A stream that its reader destroyed tells no more than this, and leaves the connection in the middle of an answer.
    statement.once?.('close', () => {
      if (!over) end(true)
    })
    statement.callback = finish
    try {
      client.query(statement as pg.Submittable)
    } catch (error) {
      finish(error as Error)
    }
  }, (error: Error) => {
    if (given !== undefined) given(error)
    else statement.handleError?.(error, null)
  }).catch(throwLater)
}
