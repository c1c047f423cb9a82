import { parseArgs } from 'node:util'

/** What the command line asks for. */
export interface ShowOptions {
  /** Ends by itself after so long; null: when it is told to. */
  readonly seconds: number | null
}

export const usage = 'Usage: npm run cluster [-- --seconds <number above 0>]'

/**
 * Reads the command line.
 *
 * @throws with what is wrong
 */
export function readOptions (args: readonly string[]): ShowOptions {
  const { values: { seconds } } = parseArgs({ args: [...args], options: { seconds: { type: 'string' } } })
  if (seconds === undefined) return { seconds: null }
  const value = Number(seconds)
  if (!(value > 0 && value <= 86_400)) throw new Error(`--seconds must be a number above 0, at most 86400; received ${JSON.stringify(seconds)}`)
  return { seconds: value }
}
