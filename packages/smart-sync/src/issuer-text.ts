import { issuerFlaw, rule, type OptionRule } from '@orientor/session-contract/core'

/** The rule of an option that names an issuer: what no token can have as its `iss` would never match. */
export const issuerText: OptionRule<string> = rule('an issuer: a text without white space', input => {
  return issuerFlaw(input) === null ? input as string : undefined
})
