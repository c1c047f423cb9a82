/** An update of one row, the transaction that is measured. */
export interface Updates {
  readonly table: string
  readonly set: string
  readonly issuer: string
  /** The subjects are `user_1` to this. */
  readonly rows: number
}

/** The statement that updates one user, whose number stands in it as `number`: `$1`, or the variable of pgbench. */
export function updateSql ({ table, set, issuer }: Updates, number: string): string {
  return `UPDATE ${table} SET ${set} WHERE issuer = '${issuer}' AND clerk_user_id = 'user_' || ${number}`
}
