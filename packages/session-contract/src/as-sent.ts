/**
 * The option `types` of a node-postgres statement that leaves each value as the text that the server sent, whatever
 * parsers the app has set for its process (`pg.types.setTypeParser`) or for its pool. Columns of type text are read
 * also where results come in binary.
 */
export const asSent: { readonly getTypeParser: () => (value: string) => string } = Object.freeze({
  getTypeParser: () => (value: string): string => String(value)
})
