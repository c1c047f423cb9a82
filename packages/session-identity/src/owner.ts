/** The package, as messages and the hub name it. */
export const owner = '@orientor/session-identity'
