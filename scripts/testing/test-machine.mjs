import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Programs that some tests need, and are skipped without. */
const programs = ['pgbouncer', 'curl', 'redis-server', 'chromium', 'promtool']
const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']

/** What results of tests depend on beside the files of the repository, in words: turbo keeps results apart by it. */
export function testMachine () {
  const found = programs.filter(program => folders.some(folder => existsSync(join(folder, program))))
  return [process.platform, process.arch, process.version, process.getuid?.() === 0 ? 'root' : 'user', ...found].join(' ')
}
