import { STATUS_CODES } from 'node:http'
import { problemDocument, type ProblemDocument } from '@orientor/session-contract/core'

/** A problem document that names the request, by which the log is searched. */
export interface Problem extends ProblemDocument {
  readonly requestId: string
}

const details: ReadonlyMap<number, string> = new Map([
  [400, 'The request cannot be read'],
  [413, 'The body is too large'],
  [415, 'The body must be sent as application/json']
])

/** What may be told of an error: the message only of errors of this package, and never a cause. */
export function problemOf (error: unknown, requestId: string): Problem {
  const { statusCode, code, message } = (typeof error === 'object' && error !== null ? error : {}) as { statusCode?: unknown, code?: unknown, message?: unknown }
  const status = typeof statusCode === 'number' && statusCode >= 400 && STATUS_CODES[statusCode] !== undefined ? statusCode : 500
  const own = typeof code === 'string' && code.startsWith('ORI_PERF_')
  const detail = details.get(status) ?? (status < 500 ? 'The request was refused' : 'Something went wrong; see the log of the server')
  const isTold = own || (typeof code === 'string' && /^FST_[A-Z_]+$/.test(code))
  return { ...problemDocument(status, isTold ? code : 'ORI_PERF_FAILED', own ? String(message) : detail), requestId }
}
