import { startSimulator } from './start.js'

process.exitCode = await startSimulator(process.env, process)
