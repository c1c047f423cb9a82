import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Measurements } from './measurements.js'

/** Runs a measurement in a process of its own, so that no heap, and nothing that the compiler has learnt, is shared. @throws when it fails */
export async function apart<Name extends keyof Measurements> (name: Name, ...parameters: Parameters<Measurements[Name]>): Promise<Awaited<ReturnType<Measurements[Name]>>> {
  const child = fork(fileURLToPath(new URL('./child.js', import.meta.url)), [JSON.stringify([name, parameters])], {
    // Room for young objects, as fewer of them are then copied about between the measurements.
    execArgv: ['--expose-gc', '--max-old-space-size=8192', '--max-semi-space-size=64']
  })
  let answer: unknown
  child.on('message', message => { answer = message })
  const [code] = await once(child, 'close') as [number | null]
  if (code !== 0 || answer === undefined) throw new Error(`${name}(${JSON.stringify(parameters)}) ended with code ${code}`)
  return answer as Awaited<ReturnType<Measurements[Name]>>
}
