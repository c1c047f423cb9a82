// Runs the slow, violent tests of every package that has a folder `faults/`, and shows what was injected, seen and reached.
import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { createInterface } from 'node:readline'

let failed = 0
let skipped = 0
for (const name of readdirSync('packages')) {
  const folder = `packages/${name}`
  if (!existsSync(`${folder}/faults`)) continue
  const files = readdirSync(`${folder}/faults`).filter(file => file.endsWith('.faults.ts')).map(file => `faults/${file}`)
  console.log(`\n${name}`)
  const child = spawn('tap', ['--disable-coverage', '--timeout=300', '--reporter=tap', ...files], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of createInterface({ input: child.stdout })) {
    const text = line.trim()
    const indent = line.length - line.trimStart().length
    if (text.startsWith('# {"')) console.log(`  ${text.slice(2)}`)
    if (indent === 4 && /^(not )?ok /.test(text)) {
      if (/# SKIP/i.test(text)) skipped++
      console.log(text.startsWith('not ') ? `  FAILED ${text.slice(7)}` : `  ${text}`)
    }
  }
  const code = child.exitCode ?? await new Promise(resolve => { child.once('exit', resolve) })
  if (code !== 0) failed++
}
console.log(`\n${failed} packages failed, ${skipped} tests skipped`)
// Where CI installs every program that a fault needs, a skip hides one that was not injected.
process.exitCode = failed > 0 || (skipped > 0 && process.env['CI'] === 'true') ? 1 : 0
