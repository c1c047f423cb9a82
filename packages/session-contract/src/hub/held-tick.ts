import { executionAsyncResource } from 'node:async_hooks'

/** Holds on to one object that Node.js made for a call of `process.nextTick`; null until the call has run. */
export interface HeldTick {
  readonly resource: object | null
}

/**
 * Keeps `process.nextTick` fast while the result is held. It costs one tick.
 *
 * Node.js makes an object for every call, by a literal with two computed keys. V8 keeps the shape of such objects only while one of them
 * lives; when full garbage collections find none, which is a matter of luck, the shape is dropped, and the call site, which has seen
 * a second shape then, calls into the runtime for each key from there on: eight times slower, for the rest of the process.
 * A request takes several ticks. One object that lives keeps the shape.
 */
export function holdTick (): HeldTick {
  const held: { resource: object | null } = { resource: null }
  process.nextTick(() => { held.resource = executionAsyncResource() })
  return held
}
