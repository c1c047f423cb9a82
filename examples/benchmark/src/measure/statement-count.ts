import pg from 'pg'

/** Counts, at the database itself, the statements that name certain tables. */
export interface StatementCount {
  /** Starts again at 0. */
  reset (): Promise<void>
  read (): Promise<number>
  /** Every statement that was sent to the database, whatever it names, and how often. */
  list (): Promise<readonly SentStatement[]>
  close (): Promise<void>
}

/** A statement as pg_stat_statements knows it: its constants are replaced by parameters. */
export interface SentStatement {
  readonly text: string
  readonly calls: number
}

/**
 * Counts by pg_stat_statements, which the server must have preloaded; statements inside functions and triggers are not counted apart.
 *
 * @param tables - names of tables, as they stand in the statements
 */
export async function countStatements (url: string, tables: readonly string[]): Promise<StatementCount> {
  const client = new pg.Client({ connectionString: url })
  // The statement that meets the loss of the connection tells of it.
  client.on('error', () => {})
  await client.connect()
  await client.query('CREATE EXTENSION IF NOT EXISTS pg_stat_statements')
  return {
    reset: async () => { await client.query('SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)') },
    read: async () => {
      const { rows } = await client.query<{ calls: string }>(
        `SELECT coalesce(sum(calls), 0) AS calls FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND query ~ ('\\m(' || $1 || ')\\M') AND query !~ 'pg_stat_statements'`,
        [tables.join('|')])
      return Number(rows[0]?.calls)
    },
    list: async () => {
      const { rows } = await client.query<{ text: string, calls: string }>(
        `SELECT query AS text, sum(calls) AS calls FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND query !~ 'pg_stat_statements'
        GROUP BY query`)
      return rows.map(({ text, calls }) => ({ text, calls: Number(calls) }))
    },
    close: async () => { await client.end() }
  }
}
