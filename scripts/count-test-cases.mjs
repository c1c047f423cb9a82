import { Parser } from 'tap-parser'

/**
 * Counts the test cases in a stream of TAP, as tap writes it to a file: a case is a test without tests inside it. A test that fails
 * although none inside it did (a crash, a timeout, a stray assertion) counts as one failed case; so do results that break off.
 */
export async function countTestCases (stream) {
  const totals = { passed: 0, failed: 0, skipped: 0 }
  const parser = new Parser()
  // In a file tap leaves out the plan of the whole and closes with a summary instead.
  let hasSummary = false
  parser.on('comment', comment => { hasSummary ||= comment.startsWith('# { total:') })
  count(parser, totals, failures => failures.filter(({ tapError }) => !(hasSummary && tapError === 'no plan')))
  await new Promise((resolve, reject) => {
    stream.once('error', reject)
    parser.once('complete', resolve)
    stream.pipe(parser)
  })
  return totals
}

/** @param relevant - which failures of the whole count; null for a test inside it */
function count (parser, totals, relevant = null) {
  let inner = 0
  const failedBefore = totals.failed
  parser.on('child', child => {
    inner++
    count(child, totals)
  })
  // A skipped test has no body: it is one assertion with a directive.
  parser.on('assert', ({ skip, todo }) => {
    if (skip || todo) {
      inner++
      totals.skipped++
    }
  })
  parser.on('complete', ({ ok, plan, failures }) => {
    const hasFailed = relevant === null ? !ok : !ok && relevant(failures).length > 0
    // A test that is skipped from inside was counted by its assertion; one that asserts by throwing has an empty plan without a reason.
    if (plan?.skipAll && plan.skipReason) return
    if (inner === 0 && relevant === null) {
      totals[hasFailed ? 'failed' : 'passed']++
    } else if (hasFailed && totals.failed === failedBefore) {
      totals.failed++
    }
  })
}
