/** Throws where nobody of ours stands: what the app's own callbacks and listeners throw is the app's, and reaches it as an uncaught exception. */
export function throwLater (error: unknown): void {
  process.nextTick(() => { throw error })
}
