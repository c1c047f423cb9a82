/** How many test cases came to what. */
export function totals (cases) {
  const counted = { passed: 0, failed: 0, skipped: 0 }
  for (const { outcome } of cases) counted[outcome]++
  return counted
}

/** The totals in words; skips are told only where there are some. */
export function count ({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}
