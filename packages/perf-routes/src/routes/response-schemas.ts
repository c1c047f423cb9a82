/** A part of a JSON Schema (draft 7). */
export type Schema = Readonly<Record<string, unknown>>

export const number: Schema = { type: 'number' }
export const integer: Schema = { type: 'integer' }
export const text: Schema = { type: 'string' }
export const numberOrNull: Schema = { type: ['number', 'null'] }
export const integerOrNull: Schema = { type: ['integer', 'null'] }

/** An object that has exactly these properties. */
export function object (properties: Readonly<Record<string, Schema>>, more: Schema = {}): Schema {
  return { type: 'object', required: Object.keys(properties), additionalProperties: false, properties, ...more }
}

/** The same object, or null. */
export function orNull (schema: Schema): Schema {
  return { ...schema, type: ['object', 'null'] }
}

/** A list of such items. */
export function list (items: Schema): Schema {
  return { type: 'array', items }
}

/** The rating, or null. */
export const rating: Schema = { type: ['string', 'null'], enum: ['EXCELLENT', 'GOOD', 'FAIR', 'POOR', null] }

/** What every route may answer besides its own: a problem document (RFC 9457). */
export const problems: Schema = Object.fromEntries(['4xx', '5xx'].map(status => [status, {
  description: 'A problem document (RFC 9457)',
  content: {
    'application/problem+json': {
      schema: object({ type: text, title: text, status: integer, detail: text, code: text, requestId: text })
    }
  }
}]))
