/** A table that is looked for. */
export interface SoughtTable {
  /** The schemas where it is looked for, in this order; null: those of the search path. */
  readonly schemas: readonly string[] | null
  readonly name: string
}

/** A column, as the catalogue describes it. */
export interface ColumnFacts {
  readonly name: string
  /** Its type as PostgreSQL writes it, such as `character varying(20)`. */
  readonly type: string
  /** The type below all domains, without length, as it stands in a cast. */
  readonly baseType: string
  /** The same, by its name in `pg_type`: `text`, `uuid`, `citext`. */
  readonly typeName: string
}

/** A table, as the catalogue describes it. */
export interface TableFacts {
  /** Its place among the tables that were looked for, from 0. */
  readonly place: number
  readonly schema: string
  /** `r`: a table, `p`: one with partitions; `v`, `m`, `f` and others: something else. */
  readonly kind: string
  readonly columns: readonly ColumnFacts[]
  /**
   * The columns of each unique index that holds for all rows: valid, without a condition, and over nothing but columns,
   * which it compares as the table does, so that a look-up can use it.
   */
  readonly unique: ReadonlyArray<readonly string[]>
  /** Tables that inherit from it, without its partitions: no unique index of it covers their rows. */
  readonly heirs: readonly string[]
  /**
   * The policies by which row-level security may hide rows from the role: those that restrict what it reads, or else
   * those that let it read a part. Null: it reads all rows.
   */
  readonly hiddenBy: readonly string[] | null
}

/** The one value of tableFactsSql. */
export function soughtTables (tables: readonly SoughtTable[]): string {
  return JSON.stringify(tables.map(({ schemas, name }) => ({ schemas, name })))
}

/** SQL for the policies on what the role reads, by name. */
function policies (isPermissive: boolean, isTrue: boolean): string {
  return `SELECT p.polname FROM pg_catalog.pg_policy AS p
      WHERE p.polrelid = c.oid AND p.polcmd IN ('*', 'r') AND p.polpermissive = ${isPermissive}
        AND EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE r = 0 OR pg_catalog.pg_has_role(r, 'USAGE'))
        AND (pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true') = ${isTrue} ORDER BY 1`
}

const isIndexed = 'a.attrelid = c.oid AND a.attnum = x.indkey[k]'

/**
 * Describes tables (soughtTables()) in the column `facts`, JSON as text: a list of TableFacts. Tables that do not exist
 * are left out. Reads the catalogue only, which needs no right.
 */
export const tableFactsSql: string = `SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
  'place', r.place - 1, 'schema', n.nspname, 'kind', c.relkind,
  'columns', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'baseType', pg_catalog.format_type(b.oid, -1), 'typeName', t.typname
    ) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute AS a
    CROSS JOIN LATERAL (
      WITH RECURSIVE below AS (
        SELECT a.atttypid AS oid
        UNION ALL
        SELECT d.typbasetype FROM below JOIN pg_catalog.pg_type AS d ON d.oid = below.oid WHERE d.typtype = 'd'
      )
      SELECT d.oid FROM below JOIN pg_catalog.pg_type AS d ON d.oid = below.oid WHERE d.typtype <> 'd'
    ) AS b
    JOIN pg_catalog.pg_type AS t ON t.oid = b.oid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  ),
  'unique', (
    SELECT coalesce(pg_catalog.json_agg(i.columns), '[]'::json) FROM (
      SELECT ARRAY(
        SELECT a.attname
        FROM pg_catalog.generate_series(0, x.indnkeyatts - 1) AS k JOIN pg_catalog.pg_attribute AS a ON ${isIndexed}
        ORDER BY k
      ) AS columns
      FROM pg_catalog.pg_index AS x
      WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
        AND NOT EXISTS (
          SELECT
          FROM pg_catalog.generate_series(0, x.indnkeyatts - 1) AS k JOIN pg_catalog.pg_attribute AS a ON ${isIndexed}
          WHERE x.indcollation[k] <> a.attcollation
        )
    ) AS i
  ),
  'heirs', ARRAY(
    SELECT i.inhrelid::pg_catalog.regclass::text FROM pg_catalog.pg_inherits AS i
    WHERE i.inhparent = c.oid AND c.relkind <> 'p' ORDER BY 1
  ),
  'hiddenBy', CASE
    WHEN NOT pg_catalog.row_security_active(c.oid) THEN NULL
    WHEN EXISTS (${policies(false, false)}) THEN ARRAY(${policies(false, false)})
    WHEN NOT EXISTS (${policies(true, true)}) THEN ARRAY(${policies(true, false)})
  END
) ORDER BY r.place) AS facts
FROM (
  SELECT w.place, (
    SELECT c.oid
    FROM pg_catalog.jsonb_array_elements_text(CASE pg_catalog.jsonb_typeof(w.sought -> 'schemas')
      WHEN 'array' THEN w.sought -> 'schemas' ELSE pg_catalog.to_jsonb(pg_catalog.current_schemas(true))
    END) WITH ORDINALITY AS s(name, place)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = s.name
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.sought ->> 'name'
    ORDER BY s.place LIMIT 1
  ) AS oid
  FROM pg_catalog.jsonb_array_elements($1::jsonb) WITH ORDINALITY AS w(sought, place)
) AS r
JOIN pg_catalog.pg_class AS c ON c.oid = r.oid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace`

/** Reads the answer of tableFactsSql. */
export function tableFactsOf (json: string | null | undefined): readonly TableFacts[] {
  return (JSON.parse(json ?? 'null') as readonly TableFacts[] | null) ?? []
}
