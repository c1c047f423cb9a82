import pg from 'pg'

/** Ends the standby of a server and waits until it is a primary. */
export async function promote (url: string): Promise<void> {
  await at(url, client => client.query('SELECT pg_promote(true, 30)'))
}

/** Gives users the names that they have elsewhere, by subject. */
export async function catchUp (url: string, names: ReadonlyMap<string, string>): Promise<void> {
  const text = `UPDATE users SET first_name = n.name FROM unnest($1::text[], $2::text[]) AS n(subject, name)
    WHERE clerk_user_id = n.subject`
  await at(url, client => client.query(text, [[...names.keys()], [...names.values()]]))
}

/** Commits so many transactions that the server does not write out at once. */
export async function burnTransactions (url: string, count: number): Promise<void> {
  await at(url, async client => {
    await client.query('SET synchronous_commit = off')
    await client.query('CREATE TABLE IF NOT EXISTS ballast (n int)')
    await client.query(`DO $$ BEGIN FOR n IN 1..${count} LOOP INSERT INTO ballast VALUES (n); COMMIT; END LOOP; END $$`)
  })
}

/** The first transaction id that has not been given out. */
export async function xmaxOf (url: string): Promise<bigint> {
  const text = 'SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xmax'
  const { rows: [row] } = await at(url, client => client.query<{ xmax: string }>(text))
  return BigInt(row!.xmax)
}

async function at<T> (url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => {})
  }
}
