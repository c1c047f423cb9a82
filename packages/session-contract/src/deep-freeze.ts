// What was frozen all the way down; that an object is frozen says nothing about what it holds.
const done = new WeakSet<object>()

/** Freezes a tree of plain objects and arrays in place and returns it. Other values (dates, buffers, functions) are left as they are. */
export function deepFreeze<T> (value: T): T {
  if (value === null || typeof value !== 'object' || done.has(value)) return value
  const prototype = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype && !Array.isArray(value)) return value
  done.add(value)
  Object.freeze(value)
  for (const inner of Object.values(value)) deepFreeze(inner)
  return value
}
