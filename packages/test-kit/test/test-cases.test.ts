import t from 'tap'

interface TestCase { readonly name: string, readonly outcome: string, readonly why: string }
const script = new URL('../../../scripts/testing/test-cases.mjs', import.meta.url)
const { testCases } = await import(script.href) as { testCases: (tap: string, file: string) => { readonly cases: TestCase[], readonly words: string } }
const cases = (tap: string): TestCase[] => testCases(tap, 'test/a.test.ts').cases
const outcomes = (tap: string): string[] => cases(tap).map(({ name, outcome }) => `${outcome}: ${name}`)

t.test('a case is a test without tests inside it; each has its whole name, a skipped one its reason, a failed one what failed', async t => {
  t.match(cases(`TAP version 14
# Subtest: outer
    # Subtest: inner
        ok 1 - should be equal
        ok 2 - should be equal
        1..2
    ok 1 - inner
    # Subtest: other
        not ok 1 - should be equal
          ---
          at:
            fileName: test/a.test.ts
            lineNumber: 7
            columnNumber: 3
          diff: |
            -1
            +2
          ...
        1..1
        # failed 1 test
    not ok 2 - other
    1..2
    # failed 1 of 2 tests
not ok 1 - outer
ok 2 - later # SKIP no program
ok 3 - some day # TODO
# Subtest: flat
    ok 1 - should match
    1..1
ok 4 - flat
1..4
# failed 1 of 4 tests
`), [
    { name: 'outer › inner', outcome: 'passed', why: '' },
    { name: 'outer › other', outcome: 'failed', why: 'should be equal (test/a.test.ts:7:3)\n  -1\n  +2' },
    { name: 'later', outcome: 'skipped', why: 'no program' },
    { name: 'some day', outcome: 'skipped', why: 'no reason given' },
    { name: 'flat', outcome: 'passed', why: '' }
  ])
})

t.test('assertions outside of tests are one case by the name of the file, and one that fails is told beside tests that pass', async t => {
  t.strictSame(outcomes('TAP version 14\nok 1 - x\nok 2 - y\n1..2\n'), ['passed: test/a.test.ts'])
  t.strictSame(outcomes(`TAP version 14
# Subtest: fine
    ok 1 - should be equal
    1..1
ok 1 - fine
not ok 2 - stray
1..2
# failed 1 of 2 tests
`), ['passed: fine', 'failed: test/a.test.ts'])
})

t.test('results that break off, wherever they do, are a failure, and so are none at all', async t => {
  const whole = `TAP version 14
# Subtest: fine
    ok 1 - should be equal
    1..1
ok 1 - fine
1..1
# { total: 1, pass: 1 }
`
  t.strictSame(outcomes(whole), ['passed: fine'])
  for (const part of ['', 'TAP version 14\n', 'TAP version 14\n1..0 # no tests\n', whole.slice(0, whole.indexOf('1..1\nok')), whole.slice(0, whole.lastIndexOf('1..1'))]) {
    t.ok(outcomes(part).some(text => text.startsWith('failed')), JSON.stringify(part))
  }
})

t.test('a test without assertions passes unless it throws, and one that is skipped from inside is skipped once', async t => {
  t.strictSame(outcomes(`TAP version 14
# Subtest: a property
    1..0
ok 1 - a property
# Subtest: no program
    1..0 # SKIP there is no program
ok 2 - no program # SKIP there is no program
1..2
`), ['passed: a property', 'skipped: no program'])
})

t.test('what a file prints between its results is kept', async t => {
  t.match(testCases('TAP version 14\nseen\n# Subtest: fine\n    and here\n    ok 1 - x\n    1..1\nok 1 - fine\n1..1\n', 'a').words, /^seen\n +and here\n$/)
})
