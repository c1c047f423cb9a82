import {
  durationMs, integer, invalidOption, optional, readOptions, rule, withDefault, type OptionRule
} from '@orientor/session-contract/core'
import { issuerText } from './issuer-text.js'
import type { UsersTable } from './users-table.js'
import { isWebhookSecret } from './webhook-signature.js'

/** Options of the webhooks. */
export interface WebhooksOptions {
  /**
   * The signing secret of the endpoint (`whsec_…`), or several while it is rotated: a webhook that any of them has
   * signed is taken. Never logged.
   */
  readonly secrets: string | readonly string[]
  /**
   * The provider whose users the webhooks are about: `iss` of the tokens, to the letter. Default is `clerk.issuer`, or
   * the constant of the option `issuer` (`{ always }`); where there is neither it must be given.
   */
  readonly issuer?: string
  /** The path of the route, below the prefix of the scope. Default is `/webhooks/clerk`. */
  readonly path?: string
  /** The only instance whose events are taken (`ins_…`). Default: whichever signs with the secrets. */
  readonly instanceId?: string
  /** The longest body that is read, in bytes. Default is 262144 (256 KiB). */
  readonly maxBodyBytes?: number
  /**
   * The time for which the end of a session is remembered, in milliseconds: at least as long as tokens live. Default is
   * 86400000 (a day).
   */
  readonly revokedForMs?: number
}

/** The options of the webhooks, as they were given. */
export interface GivenWebhooks {
  readonly secrets: readonly string[]
  readonly issuer: string | undefined
  readonly path: string
  readonly instanceId: string | undefined
  readonly maxBodyBytes: number
  readonly revokedForMs: number
}

/** The options of the webhooks, complete. */
export interface WebhooksConfig extends Omit<GivenWebhooks, 'issuer' | 'instanceId'> {
  readonly issuer: string
  readonly instanceId: string | null
}

const owner = '@orientor/smart-sync'

const secretsRule: OptionRule<readonly string[]> = rule(
  'a secret, or a list of at least one, each "whsec_" and base64 of at least 24 bytes',
  input => {
    const secrets: readonly unknown[] = Array.isArray(input) ? input : [input]
    return secrets.length > 0 && secrets.every(isWebhookSecret) ? Object.freeze([...secrets]) : undefined
  },
  { secret: true }
)

const pathRule: OptionRule<string> = rule('a path that begins with "/", without parameters and wildcards', input => {
  return typeof input === 'string' && /^(?:\/[\w.~-]+)+$/.test(input) ? input : undefined
})

const instanceRule: OptionRule<string> = rule('the id of an instance, "ins_" and letters or digits', input => {
  return typeof input === 'string' && /^ins_\w+$/.test(input) ? input : undefined
})

/** The rule of the option `webhooks`. */
export const webhooksRule: OptionRule<GivenWebhooks> = rule('an object with "secrets"', input => {
  return readOptions<GivenWebhooks>(`${owner}: webhooks`, input, {
    secrets: secretsRule,
    issuer: optional(issuerText),
    path: withDefault(pathRule, '/webhooks/clerk'),
    instanceId: optional(instanceRule),
    maxBodyBytes: withDefault(integer({ min: 1 }), 262_144),
    revokedForMs: withDefault(durationMs({ max: Number.MAX_SAFE_INTEGER }), 86_400_000)
  })
})

/** The other options that say whose users there are. */
interface OtherOptions extends Pick<UsersTable, 'issuer'> {
  readonly clerk: { readonly issuer: string | null } | undefined
}

/**
 * Completes the options of the webhooks by the others.
 *
 * @throws ORI_CONTRACT_INVALID_OPTION when the issuer is not known, or the users table has no users of it
 */
export function completeWebhooks (given: GivenWebhooks, { clerk, issuer: ofTable }: OtherOptions): WebhooksConfig {
  const always = typeof ofTable === 'string' ? null : ofTable.always
  const issuer = given.issuer ?? clerk?.issuer ?? always
  if (issuer === null) {
    throw invalidOption(owner, 'the option "webhooks" needs the issuer of the users, which the events do not name. ' +
      'Write for example webhooks: { secrets, issuer: \'https://clerk.example.com\' }: the "iss" of the tokens.')
  }
  if (always !== null && issuer !== always) {
    throw invalidOption(owner, 'the issuer of the option "webhooks" must be the one of the option "issuer", ' +
      `since the users table has users of no other; received ${JSON.stringify(issuer)} and ${JSON.stringify(always)}.`)
  }
  return Object.freeze({ ...given, issuer, instanceId: given.instanceId ?? null })
}
