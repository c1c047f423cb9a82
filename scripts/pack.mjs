#!/usr/bin/env node
// Packs every package that is published into one folder, and says how an app installs them. Runs under `pnpm exec`, on packages that are built.
//
//   npm run pack -- [--to <folder>] [--repository https://github.com/<owner>/<name>]
//
// --repository: what is published names it; without it the tarballs are for installing only. In a workflow of GitHub it is known.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { repositoryFields } from './repository-fields.mjs'

const root = resolve(import.meta.dirname, '..')
const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env
const { values: { to, repository } } = parseArgs({
  options: {
    to: { type: 'string', default: join(root, 'tarballs') },
    repository: { type: 'string', default: GITHUB_REPOSITORY === undefined ? '' : `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}` }
  }
})
const folder = resolve(to)

try {
  repositoryFields(repository, '')
  mkdirSync(folder, { recursive: true })
  for (const name of readdirSync(folder)) if (/^orientor-.*\.tgz$/.test(name)) rmSync(join(folder, name))
  for (const name of readdirSync(join(root, 'packages'))) pack(join(root, 'packages', name))
} catch (error) {
  console.error(error.message)
  process.exit(1)
}

const tarballs = readdirSync(folder).filter(name => /^orientor-.*\.tgz$/.test(name)).sort()
const where = /^[\w./-]+$/.test(folder) ? folder : `'${folder.replaceAll("'", "'\\''")}'`
console.log(`Packed into ${folder}:

${tarballs.map(name => `  ${name}`).join('\n')}

In your app, all of them:

  npm install fastify pg ${where}/orientor-*.tgz

Leave out what you do not use; orientor-session-contract is needed by all the others.${repository === ''
  ? '\nThey name no repository: fine to install, not to publish. To publish, say --repository https://github.com/<owner>/<name>.'
  : ''}`)

function pack (cwd) {
  const manifest = join(cwd, 'package.json')
  if (!existsSync(manifest) || JSON.parse(readFileSync(manifest, 'utf8')).private) return
  if (!existsSync(join(cwd, 'dist'))) throw new Error(`${cwd} is not built. Run: npm run build`)
  const { status, error, stdout, stderr } = spawnSync('pnpm', [`--config.pnpmfile=${join(import.meta.dirname, 'packing.pnpmfile.mjs')}`, 'pack', '--pack-destination', folder], {
    cwd, encoding: 'utf8', shell: process.platform === 'win32', env: { ...process.env, ORIENTOR_REPOSITORY: repository }
  })
  if (status !== 0) throw new Error(`${cwd} could not be packed: ${error?.message ?? `${stdout}${stderr}`}`)
}
