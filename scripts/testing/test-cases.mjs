import { Parser } from 'tap-parser'

/**
 * The test cases in the TAP of one test file, in order: a case is a test without tests inside it. A test that fails although none inside
 * it did (a crash, a timeout, a stray assertion) is one failed case; so are results that break off, and a file that tests nothing. Assertions outside of
 * tests are one case.
 *
 * @param file - stands for the name of what has none
 * @returns {{ cases: { name: string, outcome: 'passed' | 'failed' | 'skipped', why: string }[], words: string }} `why`: the reason of a
 *   skip, the failed assertions; `words`: what the file printed between its TAP
 */
export function testCases (tap, file) {
  const cases = []
  let words = ''
  const parser = new Parser()
  collect(parser, [], file, cases, extra => { words += extra })
  parser.end(tap)
  return { cases, words }
}

function collect (parser, path, file, cases, hear) {
  let inner = 0
  const failedBefore = failed(cases)
  const add = (outcome, why, name = null) => { cases.push({ name: [...path, ...name === null ? [] : [name]].join(' › ') || file, outcome, why }) }
  parser.on('extra', hear)
  parser.on('child', child => {
    inner++
    collect(child, [...path, child.name], file, cases, hear)
  })
  // A skipped test has no body: it is one assertion with a directive.
  parser.on('assert', ({ name, skip, todo }) => {
    if (!skip && !todo) return
    inner++
    // Not asked for: onlyTests().
    if (reason(skip).startsWith('filter: ')) return
    add('skipped', reason(skip) || reason(todo) || 'no reason given', name)
  })
  parser.on('complete', ({ ok, plan, count, failures }) => {
    // A test that is skipped from inside was counted by its assertion; one that asserts by throwing has an empty plan without a reason.
    if (path.length > 0 && plan?.skipAll && plan.skipReason) return
    if (!ok && failed(cases) === failedBefore) add('failed', failures.map(explain).join('\n'))
    else if (path.length === 0 && cases.length === 0 && (inner > 0 || count === 0)) add('failed', 'There is no test in it, or none that was asked for: titles are given from the outermost inwards.')
    else if (inner === 0) add('passed', '')
  })
}

function failed (cases) {
  return cases.filter(({ outcome }) => outcome === 'failed').length
}

function reason (directive) {
  return typeof directive === 'string' ? directive : ''
}

function explain ({ name, tapError, diag }) {
  const { at, stack, diff, source: _source, ...rest } = diag ?? {}
  const place = at === undefined ? '' : ` (${at.fileName}:${at.lineNumber}:${at.columnNumber})`
  const details = [diff, Object.keys(rest).length > 0 && diff === undefined ? shortened(JSON.stringify(rest, null, 2)) : undefined, stack]
  return [`${name || tapError || 'failed'}${place}`, ...details.filter(Boolean).map(text => text.trimEnd().replace(/^/gm, '  '))].join('\n')
}

/** An error may hold a whole client of a database. */
function shortened (text, maxLength = 2000) {
  return text.length <= maxLength ? text : `${text.slice(0, maxLength)} …`
}
