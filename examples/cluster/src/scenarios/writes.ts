import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { plainly, updateRow, type Write } from '../harness/index.js'

/** Rows of other users that a write of a crowd changes along. */
export const crowdSize = 5000

/** SQL that makes the rows of the crowd, unless they are there. */
export const makeCrowd = `INSERT INTO users (issuer, clerk_user_id, last_clerk_sync)
SELECT 'https://crowd.example.com', 'crowd_' || n, now() FROM generate_series(1, ${crowdSize}) AS n
WHERE NOT EXISTS (SELECT FROM users WHERE clerk_user_id = 'crowd_1')`

/** Changes a user, and ${crowdSize} others with the same statement. */
export const withCrowd: Write = plainly(`WITH crowd AS (
  UPDATE users SET last_name = $2 WHERE issuer = 'https://crowd.example.com'
) ${updateRow}`)

/** Does some of the writes in one way, and the others plainly. */
export function some (share: number, write: Write): Write {
  const usual = plainly(updateRow)
  return (pool, values) => Math.random() < share ? write(pool, values) : usual(pool, values)
}

/** Waits for locks no longer than 50 ms. */
export const impatiently: Write = inTransaction("SET LOCAL lock_timeout = '50ms'")

/** Leaves the transaction of a write open for so long, in milliseconds. */
export function leftOpen (openMs: number): Write {
  return inTransaction('', openMs)
}

function inTransaction (first: string, openMs: number = 0): Write {
  return async (pool, values) => {
    const client = await pool.connect()
    let isDone = false
    try {
      await client.query(`BEGIN; ${first}`)
      const { rowCount } = await client.query(updateRow, [...values])
      await pause(openMs)
      await client.query('COMMIT')
      isDone = true
      return rowCount
    } finally {
      client.release(!isDone)
    }
  }
}

/** Commits a write in two phases, so long after each other, in milliseconds: the second by another session. */
export function inTwoPhases (preparedMs: number): Write {
  return async (pool, values) => {
    const id = pg.escapeLiteral(`cluster ${values[1]}`)
    const client = await pool.connect()
    let isDone = false
    let changed: number | null = null
    try {
      await client.query('BEGIN')
      changed = (await client.query(updateRow, [...values])).rowCount
      await client.query(`PREPARE TRANSACTION ${id}`)
      isDone = true
    } finally {
      client.release(!isDone)
    }
    await pause(preparedMs)
    await pool.query(`COMMIT PREPARED ${id}`)
    return changed
  }
}
