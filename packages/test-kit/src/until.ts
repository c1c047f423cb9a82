/**
 * Waits until the condition holds, asking every 10 ms. How long it may take is a matter of the machine, so the default is a minute: a test that is about
 * time says its own limit.
 *
 * @throws after `withinMs`, with what was waited for
 */
export async function until (what: string, condition: () => boolean | Promise<boolean>, withinMs: number = 60_000): Promise<void> {
  const untilMs = performance.now() + withinMs
  while (!await condition()) {
    if (performance.now() > untilMs) throw new Error(`Not within ${withinMs} ms: ${what}`)
    await new Promise(resolve => { setTimeout(resolve, 10) })
  }
}
