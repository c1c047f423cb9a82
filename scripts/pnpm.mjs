#!/usr/bin/env node
// Runs the pnpm that package.json pins ("packageManager"), through npx, so that a machine with only
// Node.js and npm can run every script of this repository.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
const pnpm = manifest.packageManager.split('+')[0]
const { status, error } = spawnSync('npx', ['--yes', '--prefer-offline', pnpm, ...process.argv.slice(2)], {
  stdio: 'inherit',
  shell: process.platform === 'win32',
  env: { TURBO_TELEMETRY_DISABLED: '1', ...process.env }
})
if (error) throw error
process.exitCode = status ?? 1
