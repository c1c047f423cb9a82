/** Where it is shown; the standard output. */
export interface Output {
  readonly isTTY?: boolean
  write (text: string): unknown
}

// From the upper left corner, over what was there, and nothing below.
const home = '\u001b[H'
const clear = '\u001b[2J'
const clearLine = '\u001b[K'
const clearBelow = '\u001b[J'

/** Draws a page over the one before; does nothing where that cannot be done. */
export class Screen {
  readonly #output: Output
  #drawn = false

  constructor (output: Output) {
    this.#output = output
  }

  get canDraw (): boolean {
    return this.#output.isTTY === true
  }

  draw (page: string): void {
    if (!this.canDraw) return
    if (!this.#drawn) this.#output.write(clear)
    this.#drawn = true
    this.#output.write(`${home}${page.split('\n').map(line => `${line}${clearLine}`).join('\n')}${clearBelow}`)
  }

  line (text: string): void {
    this.#output.write(`${text}\n`)
  }
}
