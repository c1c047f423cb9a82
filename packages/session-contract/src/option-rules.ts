import type { Clock } from './clock.js'
import { errors } from './errors.js'

/** How one option is read: what it must be, in words for the message, and the value to take. */
export interface OptionRule<T> {
  /** Completes the sentence "option x must be …". */
  readonly must: string
  /** Whether the value must never be shown in a message. */
  readonly secret: boolean
  /** The value to use when the option is left out; undefined when there is none. */
  readonly fallback: T | undefined
  readonly required: boolean
  /** The value to use, or undefined when the input breaks the rule. */
  accept (input: unknown): T | undefined
}

/** Longest delay that a Node.js timer can wait, in milliseconds (2^31 − 1). */
export const maxDelayMs = 2_147_483_647

interface Bounds { readonly min?: number, readonly max?: number }

/** A rule from its words and its test. */
export function rule<T> (must: string, accept: (input: unknown) => T | undefined, more: { readonly secret?: boolean } = {}): OptionRule<T> {
  return { must, accept, secret: more.secret ?? false, fallback: undefined, required: true }
}

/** The same rule with a value for when the option is left out. */
export function withDefault<T> (inner: OptionRule<T>, fallback: NoInfer<T>): OptionRule<T> {
  return { ...inner, fallback, required: false }
}

/** The same rule for an option that may be left out; it is then undefined. */
export function optional<T> (inner: OptionRule<T>): OptionRule<T | undefined> {
  return { ...inner, required: false }
}

/** A whole number. */
export function integer ({ min = 0, max = Number.MAX_SAFE_INTEGER }: Bounds = {}): OptionRule<number> {
  return rule(`an integer from ${min} to ${max}`, input => typeof input === 'number' && Number.isSafeInteger(input) && input >= min && input <= max ? input : undefined)
}

/** A duration in whole milliseconds; Infinity is refused. No longer than a timer can wait unless `max` says so, for what is only compared, such as an age. */
export function durationMs ({ min = 1, max = maxDelayMs }: Bounds = {}): OptionRule<number> {
  return { ...integer({ min, max }), must: `a whole number of milliseconds from ${min} to ${max}` }
}

/** A number from 0 to 1. */
export const ratio: OptionRule<number> = rule('a number from 0 to 1', input => typeof input === 'number' && input >= 0 && input <= 1 ? input : undefined)

/** A string with at least one character. */
export const text: OptionRule<string> = rule('a non-empty string', input => typeof input === 'string' && input !== '' ? input : undefined)

/** A string that is never shown. */
export const secretText: OptionRule<string> = { ...text, secret: true }

/** true or false. */
export const flag: OptionRule<boolean> = rule('true or false', input => typeof input === 'boolean' ? input : undefined)

/** One of the values named. */
export function oneOf<const T extends string> (values: readonly T[]): OptionRule<T> {
  return rule(`one of ${values.map(value => JSON.stringify(value)).join(', ')}`, input => values.find(value => value === input))
}

/** A list, each item by the rule given. */
export function listOf<T> (inner: OptionRule<T>, { min = 0 }: { readonly min?: number } = {}): OptionRule<readonly T[]> {
  return rule(`a list of at least ${min}, each ${inner.must}`, input => {
    if (!Array.isArray(input) || input.length < min) return undefined
    const items = input.map(item => inner.accept(item))
    return items.includes(undefined) ? undefined : Object.freeze(items as T[])
  }, { secret: inner.secret })
}

/** A function. */
export function callable<T extends (...input: never[]) => unknown> (signature: string): OptionRule<T> {
  return rule(`a function ${signature}`, input => typeof input === 'function' ? input as T : undefined)
}

/** An object that has the methods named. What is given in its place is not shown: it may be a connection string. */
export function objectWith<T extends object> (description: string, methods: ReadonlyArray<keyof T & string>): OptionRule<T> {
  return rule(description, input => {
    if ((typeof input !== 'object' && typeof input !== 'function') || input === null) return undefined
    return methods.every(method => typeof (input as Record<string, unknown>)[method] === 'function') ? input as T : undefined
  }, { secret: true })
}

/** A Clock. */
export const clockObject: OptionRule<Clock> = objectWith('a clock: an object with now(), monotonic() and setTimer(callback, delayMs)', ['now', 'monotonic', 'setTimer'])

/** The rules of a whole options object. */
export type OptionRules<T> = { readonly [K in keyof T]-?: OptionRule<T[K]> }

/**
 * Reads the options of a plugin: pure, never mutates, refuses unknown keys, and returns a frozen object with every option set.
 * An option that is undefined counts as left out; null does not.
 *
 * @param owner - the package, for the message
 * @throws ORI_CONTRACT_INVALID_OPTION naming the option, the rule and what was received
 */
export function readOptions<T extends object> (owner: string, input: unknown, rules: OptionRules<T>): Readonly<T> {
  const given = input ?? {}
  // A text in place of the options is most often the secret that one of them takes.
  if (typeof given !== 'object' || Array.isArray(given)) {
    throw invalid(owner, `the options must be an object; received ${describe(given, true)}.`)
  }
  const known = Object.keys(rules)
  for (const name of Object.keys(given)) {
    if (!known.includes(name)) throw invalid(owner, `option "${name}" is not known. The options are: ${known.join(', ')}.`)
  }
  const result: Record<string, unknown> = {}
  for (const [name, entry] of Object.entries(rules) as Array<[string, OptionRule<unknown>]>) {
    const value = (given as Record<string, unknown>)[name]
    if (value === undefined) {
      if (entry.required) throw invalid(owner, `option "${name}" is missing; it must be ${entry.must}.`)
      result[name] = entry.fallback
      continue
    }
    const accepted = entry.accept(value)
    if (accepted === undefined) throw invalid(owner, `option "${name}" must be ${entry.must}; received ${describe(value, entry.secret)}.`)
    result[name] = accepted
  }
  return Object.freeze(result) as Readonly<T>
}

/** An option error for a rule that spans several options. */
export function invalidOption (owner: string, message: string): Error {
  return invalid(owner, message)
}

function invalid (owner: string, message: string): Error {
  return new errors.InvalidOption(`${owner}: ${message}`)
}

/** A value in a few words; of a secret only its type. */
export function describe (value: unknown, secret: boolean): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'string') {
    if (secret) return `a string of ${value.length} characters`
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  }
  if (secret || typeof value === 'object' || typeof value === 'function') return typeof value === 'function' ? 'a function' : `a value of type ${typeof value}`
  return `${String(value)} (${typeof value})`
}
