import { quotedTable } from '../table-names.js'
import type { UsersTable } from '../users-table.js'
import { isOurs, revisionTriggerName } from './revision-trigger.js'

/** A column of the users table, as the catalogue describes it. */
export interface ColumnFacts {
  readonly name: string
  /** Its type as PostgreSQL writes it, such as `character varying(20)`, or the domain. */
  readonly type: string
  /** The type below all domains, without length, as it stands in a cast. */
  readonly baseType: string
  /** The same, by its name in `pg_type`. */
  readonly typeName: string
  /** Whether null is refused, by the column or by a domain that is its type. */
  readonly notNull: boolean
  /** Whether it is the domain that refuses null. */
  readonly isDomainNotNull: boolean
  /**
   * Whether an INSERT that does not name it gets a value: by a default of the column or its domain, or as an identity.
   */
  readonly hasDefault: boolean
  /** `a`: GENERATED ALWAYS AS IDENTITY, `d`: BY DEFAULT, empty: none. */
  readonly identity: string
  /** `s`: computed and stored, `v`: computed when it is read, empty: neither. */
  readonly generated: string
  /** The columns that it is computed from. */
  readonly bases: readonly string[]
  /** Whether its collation tells any two different texts apart. */
  readonly isDeterministic: boolean
  /** Most characters that it takes; null: no limit. */
  readonly maxLength: number | null
  /** The privileges that the role has on it, of SELECT, INSERT and UPDATE. */
  readonly granted: readonly string[]
}

/** The trigger that counts the revision, as it is. */
export interface RevisionTriggerFacts {
  /** `A`: always, whatever the replication role. */
  readonly enabled: string
  /** Whether its function is one that a migration made: its owner may act for the owner of the table, and it runs with the rights of the writer. */
  readonly isOurs: boolean
  /** Whether it is called before each row is updated, and without a condition. */
  readonly isCalled: boolean
  /** Its column list; empty: any update calls it. */
  readonly columns: readonly string[]
  readonly body: string
  /** The note on it (its comment): JSON as text. */
  readonly note: string | null
}

/** A unique index, as the catalogue describes it. */
export interface UniqueFacts {
  readonly columns: readonly string[]
  /** Whether each row is checked at once: the constraint is not deferrable. */
  readonly isImmediate: boolean
  /** Whether its collations tell any two different texts apart. */
  readonly isDeterministic: boolean
}

/** The users table, as the catalogue describes it. */
export interface TableFacts {
  /** `r`: a table, `p`: one with partitions. */
  readonly kind: string
  readonly columns: readonly ColumnFacts[]
  /** The unique indexes that ON CONFLICT can go by: valid, without a condition, over nothing but columns. */
  readonly unique: readonly UniqueFacts[]
  /** The sequences that defaults of its columns draw from and the role may not, by the names of the columns. */
  readonly lockedSequences: Readonly<Record<string, string>>
  /** Whether the role may read the users that were deleted; true where that table is not there yet. */
  readonly readsTombstones: boolean
  /** Commands for which row-level security may hide rows from the role. */
  readonly hidden: readonly string[]
  /** Enabled triggers BEFORE INSERT FOR EACH ROW. */
  readonly beforeInsert: readonly string[]
  /** Enabled triggers BEFORE UPDATE FOR EACH ROW of the table and its partitions, but for that of the revision. */
  readonly beforeUpdate: readonly string[]
  readonly revisionTrigger: RevisionTriggerFacts | null
}

/** SQL for the rows of policies that apply to the role for a command. */
function policies (permissive: boolean): string {
  const isTrue = (expression: string): string => `pg_catalog.pg_get_expr(${expression}, p.polrelid) = 'true'`
  const letsRead = `(v.cmd = 'a' OR ${isTrue('p.polqual')})`
  const lets = `${letsRead} AND (v.cmd = 'r' OR ${isTrue('coalesce(p.polwithcheck, p.polqual)')})`
  return `SELECT FROM pg_catalog.pg_policy AS p
      WHERE p.polrelid = c.oid AND p.polcmd IN ('*', v.cmd) AND p.polpermissive = ${permissive}
        AND EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE r = 0 OR pg_catalog.pg_has_role(r, 'USAGE'))
        AND ${permissive ? lets : `(${lets}) IS NOT TRUE`}`
}

/**
 * SQL that describes the users table in the column `facts`, JSON as text; takes factsValues(). No row: there is no such
 * table. Reads the catalogue only, which needs no right.
 */
export const tableFactsSql: string = `SELECT pg_catalog.json_build_object(
  'kind', c.relkind,
  'columns', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname,
      'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'baseType', pg_catalog.format_type(b.oid, -1),
      'typeName', t.typname,
      'notNull', a.attnotnull OR b.refuses_null,
      'isDomainNotNull', b.refuses_null,
      'hasDefault', a.atthasdef AND a.attgenerated = '' OR a.attidentity <> '' OR d.typdefault IS NOT NULL,
      'identity', a.attidentity,
      'generated', a.attgenerated,
      'bases', ARRAY(
        -- Before PostgreSQL 15 the column itself depends on what it is computed from, since then its expression does.
        SELECT DISTINCT s.attname FROM pg_catalog.pg_depend AS x
        JOIN pg_catalog.pg_attribute AS s ON s.attrelid = c.oid AND s.attnum = x.refobjsubid
        LEFT JOIN pg_catalog.pg_attrdef AS e ON x.classid = 'pg_catalog.pg_attrdef'::regclass AND e.oid = x.objid
        WHERE a.attgenerated <> '' AND x.refclassid = 'pg_catalog.pg_class'::regclass AND x.refobjid = c.oid AND x.refobjsubid NOT IN (0, a.attnum)
          AND (e.adrelid = c.oid AND e.adnum = a.attnum
            OR x.classid = 'pg_catalog.pg_class'::regclass AND x.objid = c.oid AND x.objsubid = a.attnum)
      ),
      'isDeterministic', NOT EXISTS (
        SELECT FROM pg_catalog.pg_collation AS l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic
      ),
      'maxLength', CASE WHEN t.typname IN ('varchar', 'bpchar') AND b.typmod > 4 THEN b.typmod - 4 END,
      'granted', ARRAY(
        SELECT v.privilege FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS v(privilege)
        WHERE pg_catalog.has_column_privilege(c.oid, a.attnum, v.privilege)
      )
    ) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS d ON d.oid = a.atttypid
    CROSS JOIN LATERAL (
      WITH RECURSIVE below AS (
        SELECT a.atttypid AS oid, a.atttypmod AS typmod, 0 AS depth
        UNION ALL
        SELECT y.typbasetype, y.typtypmod, below.depth + 1
        FROM below JOIN pg_catalog.pg_type AS y ON y.oid = below.oid WHERE y.typtype = 'd'
      )
      SELECT (pg_catalog.array_agg(y.oid ORDER BY below.depth DESC))[1] AS oid,
        (pg_catalog.array_agg(below.typmod ORDER BY below.depth DESC))[1] AS typmod,
        pg_catalog.bool_or(y.typnotnull) AS refuses_null
      FROM below JOIN pg_catalog.pg_type AS y ON y.oid = below.oid
    ) AS b
    JOIN pg_catalog.pg_type AS t ON t.oid = b.oid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  ),
  'unique', ARRAY(
    SELECT pg_catalog.json_build_object(
      'columns', ARRAY(
        SELECT a.attname FROM pg_catalog.generate_series(0, x.indnkeyatts - 1) AS k
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = x.indkey[k] ORDER BY a.attname
      ),
      'isImmediate', x.indimmediate,
      'isDeterministic', NOT EXISTS (
        SELECT FROM unnest(x.indcollation) AS k(oid) JOIN pg_catalog.pg_collation AS l ON l.oid = k.oid
        WHERE NOT l.collisdeterministic
      )
    )
    FROM pg_catalog.pg_index AS x
    WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
  ),
  'lockedSequences', (
    SELECT coalesce(pg_catalog.json_object_agg(a.attname, q.oid::regclass), '{}') FROM pg_catalog.pg_attrdef AS e
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
    JOIN pg_catalog.pg_depend AS x ON x.classid = 'pg_catalog.pg_attrdef'::regclass AND x.objid = e.oid AND x.refclassid = 'pg_catalog.pg_class'::regclass
    JOIN pg_catalog.pg_class AS q ON q.oid = x.refobjid
    WHERE e.adrelid = c.oid AND CASE WHEN q.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(q.oid, 'USAGE, UPDATE') ELSE false END
  ),
  'readsTombstones', coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass($3), 'SELECT'), true),
  'hidden', ARRAY(
    SELECT v.name FROM (VALUES ('SELECT', 'r'), ('INSERT', 'a'), ('UPDATE', 'w')) AS v(name, cmd)
    WHERE pg_catalog.row_security_active(c.oid)
      AND (NOT EXISTS (${policies(true)}) OR EXISTS (${policies(false)}))
  ),
  'beforeInsert', ARRAY(
    SELECT g.tgname FROM pg_catalog.pg_trigger AS g
    WHERE g.tgrelid = c.oid AND g.tgtype & 7 = 7 AND g.tgenabled <> 'D' ORDER BY 1
  ),
  'beforeUpdate', ARRAY(
    WITH RECURSIVE tree AS (
      SELECT c.oid
      UNION
      SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits AS i ON i.inhparent = tree.oid
    )
    SELECT DISTINCT g.tgname FROM tree JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = tree.oid
    WHERE g.tgtype & 19 = 19 AND g.tgenabled <> 'D' AND g.tgname <> $2 ORDER BY 1
  ),
  'revisionTrigger', (
    SELECT pg_catalog.json_build_object(
      'enabled', g.tgenabled,
      'isOurs', ${isOurs('f', 'c.relowner')},
      'isCalled', g.tgtype = 19 AND g.tgqual IS NULL,
      'columns', ARRAY(
        SELECT a.attname FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum = ANY (g.tgattr::int2[]) ORDER BY a.attname
      ),
      'body', f.prosrc,
      'note', pg_catalog.obj_description(g.oid, 'pg_trigger')
    )
    FROM pg_catalog.pg_trigger AS g JOIN pg_catalog.pg_proc AS f ON f.oid = g.tgfoid
    WHERE g.tgrelid = c.oid AND g.tgname = $2
  )
) AS facts
FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass($1)`

/** The values of tableFactsSql. */
export function factsValues (table: UsersTable): string[] {
  return [quotedTable(table.tables.users), revisionTriggerName(table), quotedTable(table.tables.tombstones)]
}

/** The facts in the answer of tableFactsSql; null: there is no such table. */
export function tableFactsOf (rows: ReadonlyArray<Readonly<Record<string, unknown>>>): TableFacts | null {
  const [row] = rows
  return row === undefined ? null : JSON.parse(String(row['facts'])) as TableFacts
}
