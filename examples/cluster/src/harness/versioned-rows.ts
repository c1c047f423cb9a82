/** How the rows of the users carry a version: in `first_name`, together with whose row it is, so that a mix-up shows. */
export function nameOf (subject: string, version: number): string {
  return `${subject} v${version}`
}

/** Whose row it is and which version it has; null when it was not written by the harness. */
export function readName (name: string | null): { readonly subject: string, readonly version: number } | null {
  const [, subject, version] = /^(.+) v(\d+)$/.exec(name ?? '') ?? []
  return subject === undefined ? null : { subject, version: Number(version) }
}

/** Rows for all subjects ($2) of an issuer ($1), at version 0. */
export const insertRows = `INSERT INTO users (issuer, clerk_user_id, first_name, last_clerk_sync)
SELECT $1, subject, subject || ' v0', now() FROM unnest($2::text[]) AS subject`

/** Writes a version ($3) of a user ($1, name $2) unless the row is newer already, as it is when a lost connection hid that an earlier write succeeded. */
export const updateRow: string = updateOf('first_name')

/** The same by way of another column. */
export function updateOf (column: string): string {
  return `UPDATE users SET ${column} = $2 WHERE clerk_user_id = $1 AND substring(first_name FROM '\\d+$')::bigint < $3`
}

/** The names of users ($1). */
export const selectNames = 'SELECT clerk_user_id AS subject, first_name AS name FROM users WHERE clerk_user_id = ANY ($1)'
