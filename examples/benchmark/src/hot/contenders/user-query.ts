import pg from 'pg'
import type { Reply } from '../reply.js'

/** The query that the peers' caches stand in front of. */
export function userQuery (databaseUrl: string): (subject: string) => Promise<Reply | null> {
  const pool = new pg.Pool({ connectionString: databaseUrl, max: 10 })
  return async subject => {
    const { rows } = await pool.query<Reply>({ name: 'user', text: 'SELECT id::text, email FROM users WHERE clerk_user_id = $1', values: [subject] })
    return rows[0] ?? null
  }
}
