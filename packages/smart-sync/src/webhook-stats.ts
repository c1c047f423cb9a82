import type { Instrument } from '@orientor/session-contract/core'

const webhookOutcomes = ['applied', 'ignored', 'dead_lettered', 'refused', 'not_stored'] as const

/**
 * The outcome of a webhook: `applied`, whether or not it was news; `ignored`, since nothing of it is stored here;
 * `dead_lettered`, in part or whole; `refused`; or `not_stored`, so that the sender tries again.
 */
export type WebhookOutcome = typeof webhookOutcomes[number]

/** The counts of webhooks since the start, one outcome each. */
export class WebhookStats {
  readonly #counts: Record<WebhookOutcome, number> = {
    applied: 0, ignored: 0, dead_lettered: 0, refused: 0, not_stored: 0
  }

  received (outcome: WebhookOutcome): void { this.#counts[outcome]++ }

  /** The counts now, frozen: `webhooks.applied`, `webhooks.refused`, and so on. */
  flat (): Readonly<Record<string, number>> {
    return Object.freeze(Object.fromEntries(webhookOutcomes.map(name => [`webhooks.${name}`, this.#counts[name]])))
  }

  /** The counts as an instrument. */
  get instruments (): readonly Instrument[] {
    const read: Instrument['read'] = () => {
      return webhookOutcomes.map(outcome => ({ labels: { outcome }, value: this.#counts[outcome] }))
    }
    const description = { unit: '{webhook}', help: 'Webhooks received, by what they came to.' }
    return Object.freeze([Object.freeze({ name: 'orientor.sync.webhooks', kind: 'counter', ...description, read })])
  }
}
