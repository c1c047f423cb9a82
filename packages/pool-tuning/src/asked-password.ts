import type pg from 'pg'
import { describe } from '@orientor/session-contract/core'
import { errors } from './errors.js'
import { markUnsent } from './mark-unsent.js'

/** A function of the app that answers with the password of the next connection. */
type AskPassword = Extract<pg.ClientConfig['password'], (...input: never[]) => unknown>

/**
 * Wraps the app's function for a password: an answer that is no string is an error, and a failure is marked as unsent.
 *
 * Rejects with ORI_POOL_PASSWORD_FAILED.
 */
export function askedPassword (ask: AskPassword): AskPassword {
  return async (...parameters) => {
    let password: unknown
    try {
      password = await ask(...parameters)
    } catch (cause) {
      throw markUnsent(new errors.PasswordFailed('failed', { cause }))
    }
    if (typeof password === 'string') return password
    throw markUnsent(new errors.PasswordFailed(`answered with ${describe(password, true)}`, {}))
  }
}
