import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/**
 * Runs a program at the root of the repository with the terminal of this process, and answers whether it succeeded.
 *
 * @param {string} program - on PATH, where `pnpm exec` puts the tools of the repository
 * @param {string[]} args
 * @param {(line: string) => void} [hear] - is told each line of its output instead of the terminal
 */
export async function run (program, args, hear = null) {
  const child = spawn(program, args, { cwd: root, stdio: hear === null ? 'inherit' : ['ignore', 'pipe', 'inherit'], shell: process.platform === 'win32' })
  if (hear !== null) createInterface({ input: child.stdout }).on('line', hear)
  return await new Promise(resolve => {
    child.once('error', error => { console.error(`${program}: ${error.message}`); resolve(false) }).once('close', code => { resolve(code === 0) })
  })
}
