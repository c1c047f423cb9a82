import { STATUS_CODES } from 'node:http'

/** A problem document (RFC 9457): what a client is told of an error, and nothing else of it. */
export interface ProblemDocument<Code extends string = string> {
  readonly type: 'about:blank'
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: Code
}

/** Makes a problem document, titled by its status; frozen. */
export function problemDocument<Code extends string> (
  status: number, code: Code, detail: string
): ProblemDocument<Code> {
  const title = STATUS_CODES[status] ?? (status < 500 ? 'Client Error' : 'Server Error')
  return Object.freeze({ type: 'about:blank', title, status, detail, code })
}
