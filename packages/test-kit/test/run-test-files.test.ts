import t, { type Test } from 'tap'

interface Result { readonly file: string, readonly words: string, readonly cases: ReadonlyArray<{ readonly name: string, readonly outcome: string, readonly why: string }> }
const script = new URL('../../../scripts/testing/run-test-files.mjs', import.meta.url)
const { runTestFiles } = await import(script.href) as { runTestFiles: (files: readonly string[], how: object) => Promise<Result[]> }

/** Runs files with these texts. */
async function run (t: Test, texts: Readonly<Record<string, string>>, how: object = {}): Promise<Result[]> {
  const cwd = t.testdir(Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, `import t from 'tap'\n${text}`])))
  return await runTestFiles(Object.keys(texts), { cwd, jobs: 2, timeoutSeconds: 20, ...how })
}

t.test('TypeScript runs as it stands: a failed assertion is told with its line and column in the source, and what it differs by', async t => {
  const [one] = await run(t, { 'one.ts': "interface Thing { readonly size: number }\nt.test('a thing', async t => {\n  const thing: Thing = { size: 1 }\n  t.equal(thing.size as number, 2)\n})\n" })
  t.match(one!.cases, [{ name: 'a thing', outcome: 'failed' }])
  t.match(one!.cases[0]!.why, /one\.ts:5:5/)
  t.match(one!.cases[0]!.why, /-2\n\s+\+1/)
})

t.test('files that crash, end early, hang or do not parse are failures with what is known of why, and the others are told in their order', async t => {
  const results = await run(t, {
    'crash.ts': "t.test('fine', async t => { t.pass('x') })\nsetTimeout(() => { throw new Error('from nowhere') }, 100)\n",
    'exit.ts': "t.test('never ends', async () => { process.exit(0) })\n",
    'signal.ts': "t.test('killed', async () => { process.kill(process.pid, 'SIGKILL'); await new Promise(() => {}) })\n",
    'syntax.ts': 'const x: = 5\n',
    'code.ts': "t.test('fine', async t => { t.pass('x') })\nprocess.exitCode = 3\n",
    'fine.ts': "console.log('seen')\nt.test('fine', async t => { t.pass('x') })\n"
  })
  t.strictSame(results.map(({ file, cases }) => [file, cases.some(({ outcome }) => outcome === 'failed')]), [
    ['crash.ts', true], ['exit.ts', true], ['signal.ts', true], ['syntax.ts', true], ['code.ts', true], ['fine.ts', false]
  ])
  const why = (index: number): string => results[index]!.cases.map(({ why }) => why).join('\n')
  t.match(why(0), /from nowhere/)
  t.match(why(3), /syntax\.ts/)
  t.match(why(4), /The process ended with 3/)
  t.equal(results[5]!.words, 'seen\n')
})

t.test('a file whose event loop stands still is killed when its time is up', async t => {
  const [hung] = await run(t, { 'hung.ts': "t.test('turns in a circle', async () => { for (;;); })\n" }, { timeoutSeconds: 0, graceSeconds: 1 })
  t.match(hung!.cases.at(-1), { outcome: 'failed' })
})

t.test('only tests with the titles that are asked for run, level by level and as they are spelled', async t => {
  const { onlyTests } = await import(new URL('only-tests.mjs', script).href) as { onlyTests: (titles: string) => object }
  const text = "for (const outer of ['one (1.0)', 'other']) t.test(outer, async t => { for (const inner of ['a', 'b']) t.test(inner + '?', async t => { t.pass('x') }) })"
  const ran = async (titles: string): Promise<string[]> => (await run(t, { 'some.ts': text }, { environment: onlyTests(titles) })).flatMap(({ cases }) => cases.map(({ name, outcome }) => `${outcome}: ${name}`))
  t.strictSame(await ran('one (1.0) › b?'), ['passed: one (1.0) › b?'])
  t.strictSame(await ran('one (1'), ['passed: one (1.0) › a?', 'passed: one (1.0) › b?'])
  t.match(await ran('one .1.0.'), [/^failed: /], 'no test at all is a failure')
})

t.test('every process is told what the runner has for it, and is told apart from the others', async t => {
  const text = "t.test(t.testdirName, async t => { t.equal(process.env['LENT'], 'yes') })\n"
  const results = await run(t, { 'a.ts': text, 'b.ts': text }, { environment: { LENT: 'yes' } })
  t.strictSame(results.map(({ cases }) => cases.map(({ outcome }) => outcome)), [['passed'], ['passed']])
  t.not(results[0]!.cases[0]!.name, results[1]!.cases[0]!.name)
})
