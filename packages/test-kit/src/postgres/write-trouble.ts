/** What befalls statements that write a table. */
export interface Trouble {
  /** The error that they fail with, such as `40001` or `53100`. Left out: they succeed. */
  readonly sqlState?: string
  /** Share of the statements that are struck, from 0 to 1. Default is 1. */
  readonly rate?: number
  /** How long they take more, in milliseconds. Default is 0. */
  readonly delayMs?: number
}

/** The SQL that puts a trouble on a table, takes it away, and counts. A sequence counts, since it forgets nothing when a transaction is rolled back. */
export function troubleSql (id: string, table: string, { sqlState, rate = 1, delayMs = 0 }: Trouble): { readonly create: string, readonly drop: string, readonly count: string } {
  if (sqlState !== undefined && !/^[0-9A-Z]{5}$/.test(sqlState)) throw new TypeError(`A SQLSTATE has five digits or capital letters; received ${sqlState}`)
  if (!(rate >= 0 && rate <= 1) || !(delayMs >= 0)) throw new RangeError(`The rate must be from 0 to 1 and the delay 0 or more; received ${rate} and ${delayMs}`)
  const name = `trouble_${id}`
  return {
    create: `
      CREATE SEQUENCE ${name};
      CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $trouble$
      BEGIN
        IF random() >= ${rate} THEN RETURN NULL; END IF;
        PERFORM nextval('${name}');
        ${delayMs > 0 ? `PERFORM pg_sleep(${delayMs / 1000});` : ''}
        ${sqlState === undefined ? '' : `RAISE EXCEPTION 'injected' USING ERRCODE = '${sqlState}';`}
        RETURN NULL;
      END $trouble$;
      CREATE TRIGGER ${name} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${table} FOR EACH STATEMENT EXECUTE FUNCTION ${name}()`,
    drop: `DROP FUNCTION ${name} CASCADE; DROP SEQUENCE ${name}`,
    count: `SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS struck FROM ${name}`
  }
}
