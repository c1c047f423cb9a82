import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../../', import.meta.url))
const published = readdirSync(join(root, 'packages')).filter(name => {
  const manifest = join(root, 'packages', name, 'package.json')
  return existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).private !== true
})
const tool = (name: string): string => join(root, 'node_modules', '.bin', name)

interface Manifest { readonly dependencies?: Record<string, string>, readonly peerDependencies?: Record<string, string> }

/** A folder whose node_modules hold the packed packages, and what they depend on, but for the names left out. */
function consumer (tarballs: ReadonlyMap<string, string>, without: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'orientor-consumer-'))
  const modules = join(folder, 'node_modules')
  for (const [name, unpacked] of tarballs) {
    cpSync(unpacked, join(modules, '@orientor', name), { recursive: true })
    const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8')) as Manifest
    for (const dependency of Object.keys({ ...dependencies, ...peerDependencies })) {
      const target = join(modules, dependency)
      if (dependency.startsWith('@orientor/') || without.includes(dependency) || existsSync(target)) continue
      mkdirSync(join(target, '..'), { recursive: true })
      symlinkSync(realpathSync(join(root, 'packages', name, 'node_modules', dependency)), target)
    }
  }
  mkdirSync(join(modules, '@types'), { recursive: true })
  for (const types of ['@types/node', 'typescript-7']) {
    if (!existsSync(join(modules, types))) symlinkSync(realpathSync(join(root, 'node_modules', types)), join(modules, types))
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module", "private": true }')
  return folder
}

async function typecheck (folder: string, source: Record<string, string>): Promise<string> {
  for (const [name, text] of Object.entries(source)) writeFileSync(join(folder, name), text)
  const options = { target: 'es2023', module: 'nodenext', moduleResolution: 'nodenext', types: ['node'], strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: false }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: Object.keys(source) }))
  return await run(tool('tsc'), ['-p', folder]).then(() => '', ({ stdout }: { stdout: string }) => stdout)
}

t.test('the packed packages', async t => {
  const packed = mkdtempSync(join(tmpdir(), 'orientor-packed-'))
  t.teardown(() => { rmSync(packed, { recursive: true, force: true }) })
  const tarballs = new Map<string, string>()
  for (const name of published) {
    const target = join(packed, name)
    mkdirSync(target)
    await run('pnpm', ['pack', '--pack-destination', target], { cwd: join(root, 'packages', name) })
    const [tarball] = readdirSync(target)
    await run('tar', ['-xzf', join(target, tarball!), '-C', target])
    tarballs.set(name, join(target, 'package'))
    await t.test(`${name} is packed as publint and the type resolvers want it, without build leftovers`, async t => {
      t.match((await run(tool('publint'), [join(target, tarball!), '--strict'])).stdout, /All good/)
      await run(tool('attw'), [join(target, tarball!), '--profile', 'esm-only'])
      const manifest = readFileSync(join(target, 'package', 'package.json'), 'utf8')
      t.notMatch(manifest, /workspace:|catalog:/)
      for (const file of ['README.md', 'LICENSE', 'dist/index.js', 'dist/core.js']) t.ok(existsSync(join(target, 'package', file)), file)
    })
  }

  await t.test('every core loads, typed, where Fastify is not installed', async t => {
    const folder = consumer(tarballs, ['fastify', 'fastify-plugin', '@fastify/jwt', '@fastify/postgres'])
    t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
    for (const name of published) {
      await run(process.execPath, ['--input-type=module', '-e', `await import('@orientor/${name}/core')`], { cwd: folder })
      t.pass(name)
    }
    const imports = published.map((name, index) => `import * as core${index} from '@orientor/${name}/core'\nconsole.log(core${index})`).join('\n')
    t.equal(await typecheck(folder, { 'cores.ts': imports }), '')
    await t.rejects(run(process.execPath, ['--input-type=module', '-e', 'await import(\'fastify\')'], { cwd: folder }), 'Fastify is truly absent')
  })

  await t.test('every package loads, by import and by require, and its example compiles against its published types', async t => {
    const folder = consumer(tarballs, [])
    t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
    const examples: Record<string, string> = {}
    for (const name of published) {
      await run(process.execPath, ['--input-type=module', '-e', `await import('@orientor/${name}')`], { cwd: folder })
      await run(process.execPath, ['--no-warnings', '--input-type=commonjs', '-e', `require('@orientor/${name}')`], { cwd: folder })
      examples[`${name}.ts`] = readFileSync(join(root, 'examples/alone/src', `${name}.ts`), 'utf8')
      examples[`${name}.decorated.ts`] = `import '@orientor/${name}'\nimport type { FastifyRequest } from 'fastify'\nexport const id = (request: FastifyRequest): string | undefined => request.sessionUser?.userId\n`
    }
    t.equal(await typecheck(folder, examples), '')
  })
})
