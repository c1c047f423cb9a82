import { createHash } from 'node:crypto'

/** A statement and the name under which connections prepare it. */
export interface Statement {
  readonly name: string
  readonly text: string
  /** Whether it is sent in a transaction of its own, and how that begins. Left out: it is sent as it is. */
  readonly transaction?: 'plain' | 'creation'
}

/**
 * Names a statement by what it does and by its text, so that two sets of tables on one pool do not meet under one
 * name.
 */
export function statement (purpose: string, text: string): Statement {
  return { name: `smart_sync_${purpose}_${createHash('sha256').update(text).digest('hex').slice(0, 12)}`, text }
}
