import { describe, invalidOption } from '@orientor/session-contract/core'
import type { SessionSettings } from './session-settings.js'

/** Named sets of figures for where a service runs. */
export type PresetName = 'base' | 'railway' | 'production' | 'development'

/** The figures of a preset; durations in milliseconds. */
export interface PresetValues {
  readonly size: number
  readonly overflow: number
  readonly timeoutMs: number
  readonly recycleMs: number
  readonly echoSql: boolean
  /** 0 for never. */
  readonly leakTraceAfterMs: number
}

const base: PresetValues = { size: 5, overflow: 10, timeoutMs: 30_000, recycleMs: 3_600_000, echoSql: false, leakTraceAfterMs: 0 }

/** The values of each preset; times in milliseconds. */
export const presets: Readonly<Record<PresetName, PresetValues>> = Object.freeze({
  base,
  railway: { ...base, size: 3, overflow: 7, timeoutMs: 20_000 },
  production: { ...base, size: 8, overflow: 15, recycleMs: 7_200_000 },
  development: { ...base, size: 3, overflow: 5, leakTraceAfterMs: 10_000 }
})

/** Session settings that a preset adds to the defaults: those of a small managed server on SSD. */
export const presetSettings: Readonly<Record<PresetName, Partial<SessionSettings>>> = Object.freeze({
  base: {},
  railway: { effective_cache_size: '256MB', random_page_cost: 1.1 },
  production: {},
  development: {}
})

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The preset that fits where the process runs: Railway by RAILWAY_ENVIRONMENT, else by NODE_ENV, else `base`. */
export function detectPreset (environment: Environment): { readonly preset: PresetName, readonly origin: string } {
  if ((environment['RAILWAY_ENVIRONMENT'] ?? '') !== '') return { preset: 'railway', origin: 'environment RAILWAY_ENVIRONMENT' }
  const mode = environment['NODE_ENV']
  if (mode === 'production' || mode === 'development') return { preset: mode, origin: 'environment NODE_ENV' }
  return { preset: 'base', origin: 'default' }
}

interface Variable { readonly name: string, readonly option: keyof PresetValues, readonly seconds?: boolean, readonly min: number, readonly max: number }

const variables: Readonly<Record<PresetName, readonly Variable[]>> = {
  base: [],
  railway: [
    { name: 'RAILWAY_POOL_SIZE', option: 'size', min: 1, max: 1000 },
    { name: 'RAILWAY_MAX_OVERFLOW', option: 'overflow', min: 0, max: 1000 },
    { name: 'RAILWAY_POOL_TIMEOUT', option: 'timeoutMs', seconds: true, min: 1, max: 600 }
  ],
  production: [
    { name: 'PRODUCTION_POOL_SIZE', option: 'size', min: 1, max: 1000 },
    { name: 'PRODUCTION_MAX_OVERFLOW', option: 'overflow', min: 0, max: 1000 },
    { name: 'PRODUCTION_POOL_RECYCLE', option: 'recycleMs', seconds: true, min: 60, max: 604_800 }
  ],
  development: [
    { name: 'DEV_POOL_SIZE', option: 'size', min: 1, max: 1000 },
    { name: 'DEV_MAX_OVERFLOW', option: 'overflow', min: 0, max: 1000 },
    { name: 'DEV_ECHO_SQL', option: 'echoSql', min: 0, max: 1 }
  ]
}

/**
 * The values that the environment sets for a preset, with the variable that each comes from. Durations are in seconds there.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION for a value that breaks its rule, with what to write instead
 */
export function presetEnvironment (preset: PresetName, environment: Environment): ReadonlyMap<keyof PresetValues, { readonly value: number | boolean, readonly origin: string }> {
  const found = new Map<keyof PresetValues, { readonly value: number | boolean, readonly origin: string }>()
  for (const variable of variables[preset]) {
    const text = environment[variable.name]
    if (text === undefined || text === '') continue
    found.set(variable.option, { value: read(variable, text), origin: `environment ${variable.name}` })
  }
  return found
}

function read ({ name, option, seconds = false, min, max }: Variable, text: string): number | boolean {
  if (option === 'echoSql') {
    if (/^(true|1|false|0)$/i.test(text)) return /^(true|1)$/i.test(text)
    throw invalidOption('@orientor/pool-tuning', `the variable ${name} must be "true" or "false"; received ${describe(text, false)}.`)
  }
  const value = Number(text)
  if (Number.isInteger(value) && value >= min && value <= max) return seconds ? value * 1000 : value
  const likely = seconds && Number.isInteger(value) && value / 1000 >= min && value / 1000 <= max ? ` It is read in seconds: for ${value} ms write ${Math.round(value / 1000)}.` : ''
  throw invalidOption('@orientor/pool-tuning', `the variable ${name} must be a whole number${seconds ? ' of seconds' : ''} from ${min} to ${max}; received ${describe(text, false)}.${likely}`)
}
