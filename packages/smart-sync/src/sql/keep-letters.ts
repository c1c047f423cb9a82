import { quotedTable } from '../table-names.js'
import type { DeadLetter } from '../user-store.js'
import type { UsersTable } from '../users-table.js'
import { statement, type Statement } from './statement.js'

/** Keeps dead letters; the same bytes of one user and lane are kept once. */
export function keepLetters ({ tables }: UsersTable): Statement {
  return statement('keep_letters', `INSERT INTO ${quotedTable(tables.deadLetters)}
  (issuer, clerk_user_id, lane, received, sqlstate, reason)
SELECT l.issuer, l.subject, l.lane, l.received, l.sqlstate, l.reason
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[])
  AS l(issuer, subject, lane, received, sqlstate, reason)
ON CONFLICT DO NOTHING`)
}

/** The values of keepLetters(). */
export function letterValues (letters: readonly DeadLetter[]): unknown[] {
  return [
    letters.map(({ issuer }) => issuer),
    letters.map(({ subject }) => subject),
    letters.map(({ lane }) => lane),
    letters.map(({ received }) => `\\x${Buffer.from(received).toString('hex')}`),
    letters.map(({ sqlState }) => sqlState),
    letters.map(({ reason }) => reason)
  ]
}
