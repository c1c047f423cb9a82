/** Freezes a tree of plain objects and arrays in place and returns it. Other values (dates, buffers, functions) are left as they are. */
export function deepFreeze<T> (value: T): T {
  // Also below what is frozen already, which says nothing about what it holds.
  freezeTree(value, new Set())
  return value
}

/** @param seen - of this call only: a set of all that was ever frozen would grow with the process, and stop it while it grows */
function freezeTree (value: unknown, seen: Set<object>): void {
  if (value === null || typeof value !== 'object' || seen.has(value)) return
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== null && prototype !== Object.prototype && !Array.isArray(value)) return
  seen.add(value)
  Object.freeze(value)
  for (const inner of Object.values(value)) freezeTree(inner, seen)
}
