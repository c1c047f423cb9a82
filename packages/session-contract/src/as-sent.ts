/**
 * How a statement has its values read: as the text that the server sent, whatever parsers the app has set for all of its process (`pg.types.setTypeParser`)
 * or for its pool. For the option `types` of a statement of node-postgres; columns of type text are read also where results come in binary.
 */
export const asSent: { readonly getTypeParser: () => (value: string) => string } = Object.freeze({ getTypeParser: () => (value: string): string => String(value) })
