import { Parser } from 'tap-parser'

/**
 * Counts the test cases in a stream of TAP: a case is a test without tests inside it. A test that fails although none inside it did
 * (a crash, a timeout, a stray assertion) counts as one failed case.
 */
export async function countTestCases (stream) {
  const totals = { passed: 0, failed: 0, skipped: 0 }
  const parser = new Parser()
  count(parser, totals, true)
  await new Promise((resolve, reject) => {
    stream.once('error', reject)
    parser.once('complete', resolve)
    stream.pipe(parser)
  })
  return totals
}

function count (parser, totals, isRoot) {
  let inner = 0
  const failedBefore = totals.failed
  parser.on('child', child => {
    inner++
    count(child, totals, false)
  })
  // A skipped test has no body: it is one assertion with a directive.
  parser.on('assert', ({ skip, todo }) => {
    if (skip || todo) {
      inner++
      totals.skipped++
    }
  })
  parser.on('complete', ({ ok, plan }) => {
    if (plan?.skipAll) {
      if (!isRoot) totals.skipped++
    } else if (inner === 0 && !isRoot) {
      totals[ok ? 'passed' : 'failed']++
    } else if (!ok && totals.failed === failedBefore) {
      totals.failed++
    }
  })
}
