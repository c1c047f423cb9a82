import { systemClock } from '../clock.js'
import { startDeadline } from '../deadline.js'
import type { Identity } from '../identity.js'
import { outcomeOf, unavailable, type SessionOutcome } from '../session-outcome.js'
import { SourceUnavailable, type UserSource } from '../user-source.js'

/** How long a request waits for the source where no cache stands in between, in milliseconds. */
const patienceMs = 2000

/** Resolves one identity by asking the source: what the hub does in a scope where nobody fills `resolve`. */
export async function resolveBySource (source: UserSource, identity: Identity): Promise<SessionOutcome> {
  const deadline = startDeadline(systemClock, patienceMs)
  const { key, issuer, subject } = identity
  const expired = new Promise<never>((_resolve, reject) => {
    deadline.signal.addEventListener('abort', () => { reject(new SourceUnavailable('The source did not answer in time', { cause: deadline.signal.reason })) }, { once: true })
  })
  try {
    const [load] = source.load([{ key, issuer, subject, identity }], deadline)
    return outcomeOf(await Promise.race([load!, expired]), identity, 'source', systemClock.now())
  } catch (error) {
    if (error instanceof SourceUnavailable) return unavailable(error.retryAfterMs, error)
    throw error
  } finally {
    deadline.release()
  }
}
