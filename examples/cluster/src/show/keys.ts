/** A keyboard, or a pipe that brings the same characters. */
export interface Keyboard {
  readonly isTTY?: boolean
  setRawMode? (raw: boolean): unknown
  on (event: 'data', listener: (chunk: Buffer) => void): unknown
  resume (): unknown
  pause (): unknown
}

/** What keys do. */
export interface KeyActions {
  /** @param index - of the instance, from 0 */
  toggle (index: number): void
  quit (): void
}

const ctrlC = '\u0003'

/** Listens to keys: a digit cuts an instance off or heals it, `q` and Ctrl-C quit. Returns what gives the keyboard back. */
export function listenToKeys (keyboard: Keyboard, count: number, { toggle, quit }: KeyActions): () => void {
  keyboard.setRawMode?.(true)
  keyboard.on('data', chunk => {
    for (const key of chunk.toString()) {
      const index = Number(key) - 1
      if (key === 'q' || key === ctrlC) quit()
      else if (Number.isInteger(index) && index >= 0 && index < count) toggle(index)
    }
  })
  keyboard.resume()
  return () => {
    keyboard.setRawMode?.(false)
    keyboard.pause()
  }
}
