/**
 * Loaded before everything else, with --import: from then on `Date` shows the wall clock plus a shift, as if an operator had set the clock of
 * this machine. Monotonic clocks and timers go on as they are.
 */
const Real = Date
let shiftMs = 0

class ShiftedDate extends Real {
  constructor (...parts: []) {
    if (parts.length === 0) super(Real.now() + shiftMs)
    else super(...parts)
  }

  static override now (): number {
    return Real.now() + shiftMs
  }
}

globalThis.Date = new Proxy(ShiftedDate, { apply: () => new ShiftedDate().toString() }) as unknown as DateConstructor
Object.defineProperty(globalThis, Symbol.for('@orientor-examples/cluster/shift-clock'), { value: (ms: number) => { shiftMs = ms } })
