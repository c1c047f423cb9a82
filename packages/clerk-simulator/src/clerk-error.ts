import { randomBytes } from 'node:crypto'

/** One entry of `errors[]`. */
export interface ClerkErrorEntry {
  readonly message: string
  readonly long_message: string
  readonly code: string
  readonly meta?: Readonly<Record<string, unknown>>
}

/** What Clerk answers instead of a resource. */
export interface ClerkErrorBody {
  readonly errors: readonly ClerkErrorEntry[]
  readonly clerk_trace_id: string
}

/** A refusal in the words and with the status of Clerk. */
export class ClerkError extends Error {
  override readonly name = 'ClerkError'
  readonly statusCode: number
  readonly code: string
  /** When to come back, in whole seconds; only of a 429. */
  readonly retryAfterSeconds: number | undefined
  readonly #entry: ClerkErrorEntry

  constructor (statusCode: number, entry: ClerkErrorEntry, retryAfterSeconds?: number) {
    super(entry.long_message)
    this.statusCode = statusCode
    this.code = entry.code
    this.retryAfterSeconds = retryAfterSeconds
    this.#entry = entry
  }

  /** The body to answer with; each has a trace id of its own. */
  toBody (): ClerkErrorBody {
    return { errors: [this.#entry], clerk_trace_id: randomBytes(16).toString('hex') }
  }
}

/** 404 for a resource that does not exist. */
export function notFound (resource: string, id: string): ClerkError {
  return new ClerkError(404, { message: 'not found', long_message: `No ${resource} was found with id ${id}`, code: 'resource_not_found' })
}

/** 422 for a parameter whose value breaks a rule. */
export function invalidParameter (name: string, rule: string): ClerkError {
  return new ClerkError(422, { message: 'is invalid', long_message: `${name} ${rule}`, code: 'form_param_value_invalid', meta: { param_name: name } })
}

/** 422 for a value that another user of the instance holds. */
export function taken (name: string): ClerkError {
  return new ClerkError(422, {
    message: `That ${name} is taken. Please try another.`,
    long_message: `That ${name} is taken. Please try another.`,
    code: 'form_identifier_exists',
    meta: { param_name: name }
  })
}

/** 422 for something that the state of a user or session does not allow. */
export function notAllowed (code: string, message: string): ClerkError {
  return new ClerkError(422, { message, long_message: message, code })
}

/** 501 for a parameter that Clerk knows and the simulator does not: better loud than silently another result. */
export function notSimulated (what: string): ClerkError {
  return new ClerkError(501, { message: 'not simulated', long_message: `The simulator does not know ${what}`, code: 'not_simulated' })
}

/** 401 for a request without a usable `Authorization` header. */
export function malformedAuthorization (): ClerkError {
  return new ClerkError(401, {
    message: 'Invalid Authorization header format',
    long_message: 'Invalid Authorization header format. Must be "Bearer <YOUR_API_KEY>"',
    code: 'authorization_header_format_invalid'
  })
}

/** 401 for a key that is not the secret key of the instance. */
export function wrongSecretKey (): ClerkError {
  const message = 'The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.'
  return new ClerkError(401, { message, long_message: message, code: 'clerk_key_invalid' })
}

/** 429 with the seconds to wait. */
export function tooManyRequests (retryAfterSeconds: number): ClerkError {
  return new ClerkError(429, {
    message: 'Too many requests',
    long_message: 'Too many requests. Please try again in a bit.',
    code: 'too_many_requests'
  }, retryAfterSeconds)
}
