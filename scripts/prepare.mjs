// Installs what the lockfile names and builds the packages that are named, with those they need, and says so while it does. Runs under `pnpm exec`.
import { run } from './run.mjs'

const packages = process.argv.slice(2)
const begun = performance.now()
const seconds = () => `${((performance.now() - begun) / 1000).toFixed(1)} s`

// light-my-request of Fastify 5 asks for cookie 2, which declares Node.js 22; it runs, and is tested, on 20.
const isKnown = line => line.includes('Unsupported engine for cookie@2')

console.log('Installing the packages that the lockfile names …')
await step('pnpm', ['install', '--frozen-lockfile', '--prefer-offline', '--reporter=append-only'], line =>
  /^Progress:|\[(WARN|ERROR)\]/.test(line) && !isKnown(line) ? line : null)
console.log(`Installed after ${seconds()}.`)
if (packages.length > 0) {
  console.log('Building …')
  await step('turbo', ['run', 'build', ...packages.map(name => `--filter=${name}...`), '--output-logs=new-only'], line => {
    const [, name, cached] = /^(\S+):build: cache (?:miss|(hit))/.exec(line) ?? []
    return name === undefined ? null : `${name}${cached === undefined ? '' : ' (built before)'}`
  })
  console.log(`Built after ${seconds()}.`)
}

/** Runs a program, tells the lines that `news` picks, and everything where it fails. */
async function step (program, args, news) {
  const lines = []
  const isFine = await run(program, args, line => {
    lines.push(line)
    const told = news(line)
    if (told !== null) console.log(`  ${told}`)
  })
  if (isFine) return
  console.error(lines.join('\n'))
  process.exit(1)
}
