#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import closeWithGrace from 'close-with-grace'
import { ConfigError, readConfig } from './config.js'
import { startService, type Service } from './service.js'
import { welcome } from './welcome.js'

// Above what closing may take: the requests in flight, the pool, the database.
const closedWithinMs = 30_000
const impatienceAfterMs = 1000
let endingSince: number | null = null

const grace = closeWithGrace({ delay: closedWithinMs, skip: ['SIGINT', 'SIGTERM', 'SIGHUP'] }, async ({ err }) => {
  if (err !== undefined) console.error(err)
  await (await starting.catch(() => null))?.close()
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, end)
watchParent()
const starting = start()

try {
  const service = await starting
  if (endingSince === null) process.stdout.write(welcome(service))
} catch (error) {
  process.stderr.write(`${error instanceof ConfigError ? error.message : `The app could not start. ${withCauses(error)}`}\n`)
  process.exit(1)
}

/** What went wrong, and why, as far as each cause says something new. */
function withCauses (error: unknown, most = 5): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause === undefined || most === 0) return error.message
  const cause = withCauses(error.cause, most - 1)
  return error.message.includes(cause) ? error.message : `${error.message} (${cause})`
}

async function start (): Promise<Service> {
  // As usual, what the environment says counts for more than what the file says.
  const file = existsSync('.env') ? parseEnv(readFileSync('.env', 'utf8')) : {}
  return await startService(readConfig({ ...file, ...process.env }))
}

/** The first signal closes; the same again within a second is npm passing it on; a later one means it. */
function end (): void {
  if (endingSince === null) {
    endingSince = Date.now()
    grace.close()
  } else if (Date.now() - endingSince > impatienceAfterMs) {
    process.exit(1)
  }
}

/** npm ends its shell on SIGTERM, and the shell does not tell the app: seen by the parent having changed. */
function watchParent (): void {
  if (process.env['npm_lifecycle_event'] === undefined) return
  const parent = process.ppid
  setInterval(() => { if (process.ppid !== parent) end() }, 500).unref()
}
