import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
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
  if (!existsSync(join(modules, '@types/node'))) symlinkSync(realpathSync(join(root, 'node_modules/@types/node')), join(modules, '@types/node'))
  writeFileSync(join(folder, 'package.json'), '{ "type": "module", "private": true }')
  return folder
}

/** How a consumer is compiled; `tsc6` is TypeScript 6, `tsc` TypeScript 7. */
interface TypeCheck { readonly options?: object, readonly compiler?: 'tsc' | 'tsc6' }

async function typecheck (folder: string, source: Record<string, string>, { options = { module: 'nodenext' }, compiler = 'tsc' }: TypeCheck = {}): Promise<string> {
  for (const [name, text] of Object.entries(source)) writeFileSync(join(folder, name), text)
  const always = { target: 'es2023', types: ['node'], strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: false }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...always, ...options }, files: Object.keys(source) }))
  // Without what tap puts into NODE_OPTIONS of its children: a compiler that does not start finds no fault.
  return await run('env', ['-u', 'NODE_OPTIONS', tool(compiler), '-p', folder], { cwd: folder }).then(() => '', (error: Error & { stdout: string }) => {
    if (error.stdout === '') throw error
    return error.stdout
  })
}

/** Runs scripts/pack.mjs outside of any workflow. */
async function pack (args: readonly string[], environment: Record<string, string> = {}): Promise<{ readonly stdout: string, readonly stderr: string, readonly isFine: boolean }> {
  const { GITHUB_REPOSITORY: _, GITHUB_SERVER_URL: __, ...env } = process.env
  return await run(process.execPath, [join(root, 'scripts/pack.mjs'), ...args], { env: { ...env, ...environment } })
    .then(said => ({ ...said, isFine: true }), ({ stdout, stderr }: { stdout: string, stderr: string }) => ({ stdout, stderr, isFine: false }))
}

function folderOf (t: { teardown (callback: () => unknown): void }, name: string): string {
  const folder = mkdtempSync(join(tmpdir(), name))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  return folder
}

const address = 'https://git.example.com/owner/name'

t.test('the packed packages', async t => {
  const packed = folderOf(t, 'orientor-packed-')
  writeFileSync(join(packed, 'orientor-session-cache-0.0.1.tgz'), 'of an earlier run')
  const { stdout, isFine } = await pack(['--to', packed, '--repository', address])
  t.ok(isFine, stdout)
  const files = readdirSync(packed).sort()
  t.strictSame(files.map(file => file.replace(/-\d+\.\d+\.\d+\.tgz$/, '')), published.map(name => `orientor-${name}`).sort(), 'each once, and nothing of an earlier run')
  t.ok(stdout.includes(`\n  npm install fastify pg ${packed}/orientor-*.tgz\n`), stdout)
  t.notMatch(stdout, /not to publish/)

  const tarballs = new Map<string, string>()
  for (const name of published) {
    const tarball = join(packed, files.find(file => file.startsWith(`orientor-${name}-`))!)
    const target = folderOf(t, 'orientor-unpacked-')
    await run('tar', ['-xzf', tarball, '-C', target])
    tarballs.set(name, join(target, 'package'))
    await t.test(`${name} is packed as publint and the type resolvers want it, without build leftovers`, async t => {
      t.match((await run(tool('publint'), [tarball, '--strict'])).stdout, /All good/)
      await run(tool('attw'), [tarball, '--profile', 'esm-only'])
      const manifest = readFileSync(join(target, 'package', 'package.json'), 'utf8')
      t.notMatch(manifest, /workspace:|catalog:/)
      for (const file of ['README.md', 'LICENSE', 'dist/index.js', 'dist/core.js']) t.ok(existsSync(join(target, 'package', file)), file)
      t.strictSame(readdirSync(join(target, 'package')).filter(file => !['dist', 'src', 'migrations', 'LICENSE', 'README.md', 'package.json'].includes(file)), [])
    })
    await t.test(`${name} has in its manifest what a consumer can use, and where it comes from`, async t => {
      const manifest = JSON.parse(readFileSync(join(target, 'package', 'package.json'), 'utf8')) as Record<string, unknown>
      t.notOk('scripts' in manifest || 'devDependencies' in manifest, Object.keys(manifest).join(' '))
      t.match(manifest, {
        name: `@orientor/${name}`,
        engines: { node: '>=20.19.0' },
        publishConfig: { access: 'public' },
        repository: { type: 'git', url: `git+${address}.git`, directory: `packages/${name}` },
        homepage: `${address}/tree/HEAD/packages/${name}#readme`,
        bugs: { url: `${address}/issues` }
      })
    })
  }

  await t.test('npm would publish each without a warning', async t => {
    // A registry that knows no package: npm asks it whether the version is there already.
    const registry = createServer((_request, response) => { response.writeHead(404, { 'content-type': 'application/json' }).end('{}') }).listen(0, '127.0.0.1')
    t.teardown(() => { registry.close() })
    await once(registry, 'listening')
    const host = `127.0.0.1:${(registry.address() as AddressInfo).port}/`
    const cwd = folderOf(t, 'orientor-publish-')
    writeFileSync(join(cwd, '.npmrc'), `//${host}:_authToken=none\n`)
    for (const file of files) {
      const { stdout, stderr } = await run('env', ['-u', 'NODE_OPTIONS', 'npm', 'publish', join(packed, file), '--dry-run', '--json', '--registry', `http://${host}`, '--provenance', '--loglevel=warn'], { cwd })
      t.equal(stderr, '', file)
      t.match(stdout, /"name": "@orientor\//)
    }
  })

  await t.test('the compilers run, and find what is wrong', async t => {
    const folder = consumer(tarballs, [])
    t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
    const options = { module: 'nodenext', skipLibCheck: true }
    for (const compiler of ['tsc6', 'tsc'] as const) t.match(await typecheck(folder, { 'wrong.ts': "import { nothing } from '@orientor/session-cache'\nexport const value: number = nothing\n" }, { options, compiler }), /^wrong\.ts\(1,10\): error TS2614: /)
  })

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

  await t.test('the bell over Redis loads, typed, where redis is not installed, and says what is missing when it is started', async t => {
    const folder = consumer(tarballs, ['redis'])
    t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
    const source = `import { redisBell } from '@orientor/session-cache/redis'
      await redisBell({ url: 'redis://127.0.0.1:1' }).start({ heard: () => {}, report: () => {} }).catch(({ code, message }) => { console.log(code, message) })`
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source], { cwd: folder })
    t.match(stdout, /^ORI_CACHE_NO_REDIS redisBell\(\) needs the npm package "redis", .* run npm install redis@6/)
    const typed = "import { redisBell } from '@orientor/session-cache/redis'\nexport const bell = redisBell({ url: 'redis://127.0.0.1:1' })\n"
    t.equal(await typecheck(folder, { 'redis.ts': typed }), '')
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
    t.equal(await typecheck(folder, examples, { compiler: 'tsc6', options: { module: 'nodenext', skipLibCheck: true } }), '', 'TypeScript 6')
  })

  await t.test('TypeScript takes the packages with the settings that the README names, and refuses them with the others', async t => {
    const folder = consumer(tarballs, [])
    t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
    const entries = published.flatMap(name => {
      const { exports } = JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8')) as { exports: object }
      return Object.keys(exports).filter(entry => !entry.endsWith('.json')).map(entry => `@orientor/${name}${entry.slice(1)}`)
    })
    const imports = `${entries.map((entry, index) => `import * as entry${index} from '${entry}'`).join('\n')}\nexport const entries = [${entries.map((_, index) => `entry${index}`).join(', ')}]\n`
    const rows = readFileSync(join(root, 'README.md'), 'utf8').split('\n').map(line => line.split('|').slice(1, -1).map(cell => cell.trim())).filter(([modules, , verdict]) => /^`/.test(modules ?? '') && /^(yes|no|in ESM files)\b/.test(verdict ?? ''))
    t.ok(rows.length >= 4, 'rows of the table')
    for (const [modules = '', resolution = '', verdict = ''] of rows) {
      for (const [index, [, module]] of [...modules.matchAll(/`(\w+)`/g)].entries()) {
        // TypeScript 6 takes four times as long: one of each row.
        for (const compiler of index === 0 ? ['tsc6', 'tsc'] as const : ['tsc'] as const) {
          const moduleResolution = /`(\w+)`/.exec(resolution)?.[1]
          const options = { module, skipLibCheck: true, ...moduleResolution !== undefined && { moduleResolution } }
          const said = await typecheck(folder, { 'esm.mts': imports, 'commonjs.cts': imports }, { options, compiler })
          const title = `${module} ${moduleResolution ?? ''}: ${verdict} (${compiler})`
          if (verdict === 'yes') t.equal(said, '', title)
          else t.match(said, new RegExp(`error (${verdict.match(/TS\d+/g)!.join('|')}): `), title)
          if (verdict.startsWith('in ESM')) t.strictSame(said.trim().split('\n').filter(line => !/^commonjs\.cts\(.* error TS1479: |^ {2}/.test(line)), [], `${title}: nothing else`)
        }
      }
    }
  })
})

t.test('A folder with spaces, and a workflow of GitHub', async t => {
  const folder = join(folderOf(t, 'orientor-packed-'), "d'été, à part")
  const { stdout, isFine } = await pack(['--to', folder], { GITHUB_SERVER_URL: 'https://github.com', GITHUB_REPOSITORY: 'owner/name' })
  t.ok(isFine, stdout)
  const [, line = ''] = /^ {2}npm (install .*)$/m.exec(stdout) ?? []
  const words = (await run('sh', ['-c', `printf '%s\\n' ${line}`])).stdout.trimEnd().split('\n')
  t.strictSame(words, ['install', 'fastify', 'pg', ...published.map(name => readdirSync(folder).find(file => file.startsWith(`orientor-${name}-`))).sort().map(file => join(folder, file!))], 'the line can be pasted into a shell')
  const { stdout: manifest } = await run('tar', ['-xzOf', words[3]!, 'package/package.json'])
  t.match(JSON.parse(manifest), { repository: { url: 'git+https://github.com/owner/name.git' } })
})

t.test('What is packed without an address says so, and an address that is none is refused without being repeated', async t => {
  const { repositoryFields } = await import(new URL('../../../scripts/repository-fields.mjs', import.meta.url).href) as { repositoryFields: (address: string | undefined, name: string) => object }
  t.strictSame([repositoryFields(undefined, '@orientor/x'), repositoryFields('', '@orientor/x')], [{}, {}])
  const said = /^The address of the repository must be like https:\/\/github\.com\/owner\/name, [^@?]*$/
  for (const wrong of ['owner/name', 'git@git.example.com:owner/name', 'https://git.example.com/owner/name.git', 'https://git.example.com/owner', 'https://git.example.com/owner/name?token=hunter2', 'http://git.example.com/owner/name']) {
    t.throws(() => repositoryFields(wrong, '@orientor/x'), { message: said }, wrong)
  }
  const { isFine, stderr } = await pack(['--to', join(tmpdir(), 'orientor-never'), '--repository', 'https://ann:hunter2@git.example.com/owner/name'])
  t.notOk(isFine)
  t.match(stderr, said)
  t.notOk(existsSync(join(tmpdir(), 'orientor-never')), 'before anything is made')
  const folder = folderOf(t, 'orientor-packed-')
  t.match((await pack(['--to', folder])).stdout, /They name no repository: fine to install, not to publish\./)
})

t.test('No document tells anybody to install from npm what is not there: each README says how to install the tarball', async t => {
  const documents = ['README.md', 'CONTRIBUTING.md', ...['docs', 'packages', 'examples'].flatMap(folder => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map(file => join(folder, file)))]
    .filter(file => file.endsWith('.md') && !/node_modules|dist/.test(file))
  t.ok(documents.length > 15)
  for (const file of documents) t.notMatch(readFileSync(join(root, file), 'utf8'), /(npm (install|i)|pnpm add|yarn add) [^\n`]*@orientor\//, file)
  for (const name of published) {
    const { peerDependencies } = JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8')) as { peerDependencies: object }
    const peers = ['fastify', 'pg'].filter(peer => peer in peerDependencies)
    const needed = name === 'session-contract' ? [name] : ['session-contract', name]
    const line = `npm install ${[...peers, ...needed.map(needed => `path/to/tarballs/orientor-${needed}-*.tgz`)].join(' ')}`
    t.ok(readFileSync(join(root, 'packages', name, 'README.md'), 'utf8').includes(`\n# Not on npm yet. \`npm run pack\` in a checkout of the repository makes the tarballs; then, in your app:\n${line}\n`), name)
  }
})
