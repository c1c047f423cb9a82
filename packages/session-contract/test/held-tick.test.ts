import { execFileSync } from 'node:child_process'
import { executionAsyncResource } from 'node:async_hooks'
import t from 'tap'
import { holdTick } from '../src/hub/held-tick.js'

t.test('An object of process.nextTick is held, once its tick has run.', async t => {
  const held = holdTick()
  t.equal(held.resource, null)
  const another = await new Promise<object>(resolve => { process.nextTick(() => { resolve(executionAsyncResource()) }) })
  t.not(held.resource, null)
  t.strictSame(Object.keys(held.resource!), Object.keys(another))
  t.strictSame(Object.getOwnPropertySymbols(held.resource).slice(0, 2), Object.getOwnPropertySymbols(another).slice(0, 2))
})

// Optimised code relies on the shape of the objects: V8 throws it away together with the shape.
const program = `
  import { holdTick } from '${new URL('../dist/hub/held-tick.js', import.meta.url).href}'
  const held = holdTick()
  const turn = () => new Promise(resolve => { setImmediate(resolve) })
  const isOptimized = () => (%GetOptimizationStatus(process.nextTick) & 16) !== 0
  for (let round = 0; round < 100; round++) {
    for (let tick = 0; tick < 200; tick++) process.nextTick(() => {})
    await turn()
  }
  const before = isOptimized()
  for (let collection = 0; collection < 24; collection++) {
    gc()
    await turn()
  }
  console.log(JSON.stringify({ before, after: isOptimized(), held: held.resource !== null }))`

t.test('While one is held, full garbage collections leave the optimised code of process.nextTick as it is.', async t => {
  const natives = ['--expose-gc', '--allow-natives-syntax', '--input-type=module', '-e', program]
  t.strictSame(JSON.parse(execFileSync('env', ['-u', 'NODE_OPTIONS', process.execPath, ...natives], { encoding: 'utf8' })), { before: true, after: true, held: true })
})
