import { Readable } from 'node:stream'
import t from 'tap'

interface Totals { readonly passed: number, readonly failed: number, readonly skipped: number }
const script = new URL('../../../scripts/count-test-cases.mjs', import.meta.url)
const { countTestCases } = await import(script.href) as { countTestCases: (stream: Readable) => Promise<Totals> }
const count = (text: string): Promise<Totals> => countTestCases(Readable.from([text]))

t.test('a case is a test without tests inside it', async t => {
  t.strictSame(await count(`TAP version 14
# Subtest: test/a.test.ts
    # Subtest: outer
        # Subtest: inner
            ok 1 - should be equal
            ok 2 - should be equal
            1..2
        ok 1 - inner
        # Subtest: other
            not ok 1 - should be equal
            1..1
            # failed 1 test
        not ok 2 - other
        1..2
        # failed 1 of 2 tests
    not ok 1 - outer
    ok 2 - later # SKIP no program
    # Subtest: flat
        ok 1 - should match
        1..1
    ok 3 - flat
    1..3
    # failed 1 of 3 tests
not ok 1 - test/a.test.ts
1..1
# failed 1 test
`), { passed: 2, failed: 1, skipped: 1 })
})

t.test('a file that crashes without a failing test counts as one failed case', async t => {
  t.strictSame(await count(`TAP version 14
# Subtest: test/a.test.ts
    # Subtest: fine
        ok 1 - should be equal
        1..1
    ok 1 - fine
    1..1
not ok 1 - test/a.test.ts
  ---
  exitCode: 1
  ...
1..1
# failed 1 test
`), { passed: 1, failed: 1, skipped: 0 })
  t.match(await count('TAP version 14\n1..0 # no tests\n'), { passed: 0 })
})

t.test('results that break off are a failure', async t => {
  const { failed } = await count('TAP version 14\n# Subtest: test/a.test.ts\n    # Subtest: fine\n        ok 1 - x\n')
  t.ok(failed > 0)
})

const whole = `# Subtest: test/a.test.ts
    # Subtest: fine
        ok 1 - should be equal
        1..1
    ok 1 - fine
    1..1
ok 1 - test/a.test.ts
`

t.test('a file of tap has no plan of the whole, but a summary, without which it was cut off', async t => {
  t.strictSame(await count(`${whole}# { total: 1, pass: 1 }\n# time=1ms\n`), { passed: 1, failed: 0, skipped: 0 })
  t.strictSame(await count(whole), { passed: 1, failed: 1, skipped: 0 })
})

t.test('a test without assertions passes unless it throws, and one with a reason is skipped', async t => {
  t.strictSame(await count(`# Subtest: test/a.test.ts
    # Subtest: a property
        1..0
    ok 1 - a property
    # Subtest: no program
        1..0 # SKIP there is no program
    ok 2 - no program # SKIP there is no program
    1..2
ok 1 - test/a.test.ts
# { total: 2, pass: 2 }
`), { passed: 1, failed: 0, skipped: 1 })
})
