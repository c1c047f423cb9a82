import { invalidParameter, notFound, notSimulated } from './clerk-error.js'
import type { ClerkUser } from './clerk-user.js'

/** A parsed query string. */
export type Query = Readonly<Record<string, string | readonly string[] | undefined>>

type Test = (user: ClerkUser) => boolean

const maxFilterValues = 100
const defaultLimit = 10
const maxLimit = 500
const notSimulatedParameters = ['phone_number', 'phone_number_query', 'web3_wallet', 'organization_id', 'provider', 'provider_user_id']
const orders = ['created_at', 'updated_at', 'last_active_at', 'last_sign_in_at'] as const
const ordersNotSimulated = ['email_address', 'web3wallet', 'first_name', 'last_name', 'phone_number', 'username']

const contains = (value: string | null, part: string): boolean => value?.toLowerCase().includes(part.toLowerCase()) ?? false
const addressesOf = (user: ClerkUser): readonly string[] => user.email_addresses.map(({ email_address: address }) => address)

/**
 * The users that the filters let through, in the order of `users`. Parameters that nobody knows are ignored.
 *
 * @throws ClerkError 422 when a value breaks its rule, 501 for a filter of Clerk that is not simulated
 */
export function filterUsers (users: readonly ClerkUser[], query: Query): readonly ClerkUser[] {
  const missing = notSimulatedParameters.find(name => query[name] !== undefined)
  if (missing !== undefined) throw notSimulated(`the parameter ${missing}`)
  const tests = [
    includingAndExcluding(query, 'user_id', user => user.id),
    includingAndExcluding(query, 'external_id', user => user.external_id),
    oneOfThese(query, 'email_address', addressesOf),
    oneOfThese(query, 'username', user => user.username === null ? [] : [user.username]),
    partly(query, 'email_address_query', addressesOf),
    partly(query, 'username_query', user => [user.username]),
    partly(query, 'name_query', user => [fullName(user)]),
    partly(query, 'query', user => [...addressesOf(user), user.username, user.id, fullName(user)]),
    banned(query),
    ...(['created_at', 'last_active_at', 'last_sign_in_at'] as const).flatMap(name => [
      compared(query, `${name}_before`, (user, at) => (user[name] ?? Infinity) < at),
      compared(query, `${name}_after`, (user, at) => (user[name] ?? -Infinity) > at)
    ]),
    compared(query, 'last_active_at_since', (user, at) => (user.last_active_at ?? -Infinity) >= at)
  ].filter(test => test !== undefined)
  return users.filter(user => tests.every(test => test(user)))
}

/**
 * One page of the users that the filters let through: `order_by` (default `-created_at`), then `starting_after` or `offset`, then `limit` (default 10).
 *
 * @param users - in the order in which they were made, which decides between equal instants
 * @param shift - how many rows later a page begins that is not the first; negative for earlier
 * @throws ClerkError as `filterUsers`, and 422 for a cursor that does not fit the order
 */
export function pageOfUsers (users: readonly ClerkUser[], query: Query, shift = 0): readonly ClerkUser[] {
  const { field, descending } = orderOf(first(query['order_by']) ?? '-created_at')
  const limit = integer(query, 'limit', 1, maxLimit) ?? defaultLimit
  const offset = integer(query, 'offset', 0, Number.MAX_SAFE_INTEGER) ?? 0
  const cursor = first(query['starting_after'])
  if (cursor !== undefined && field !== 'created_at') throw invalidParameter('starting_after', 'requires ordering by created_at')
  if (cursor !== undefined && offset !== 0) throw invalidParameter('starting_after', 'cannot be combined with a non-zero offset')

  const rank = new Map(users.map((user, index) => [user.id, index]))
  const compare = (a: ClerkUser, b: ClerkUser): number => {
    const ascending = (a[field] ?? 0) - (b[field] ?? 0) || (rank.get(a.id) ?? 0) - (rank.get(b.id) ?? 0)
    return descending ? -ascending : ascending
  }
  const matching = [...filterUsers(users, query)].sort(compare)
  const last = users.find(user => user.id === cursor)
  if (cursor !== undefined && last === undefined) throw notFound('user', cursor)
  const before = last === undefined ? offset : matching.filter(user => compare(user, last) <= 0).length
  const start = before === 0 ? 0 : before + shift
  return matching.slice(start, start + limit)
}

function orderOf (order: string): { readonly field: typeof orders[number], readonly descending: boolean } {
  const name = order.replace(/^[+-]/, '')
  if (ordersNotSimulated.includes(name)) throw notSimulated(`order_by=${name}`)
  const field = orders.find(known => known === name)
  if (field === undefined) throw invalidParameter('order_by', `must be one of ${orders.join(', ')}, with + or - in front`)
  return { field, descending: order.startsWith('-') }
}

function first (value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'object' ? value[0] : value
}

function listOf (query: Query, name: string): readonly string[] | undefined {
  const value = query[name]
  if (value === undefined) return undefined
  const values = typeof value === 'string' ? [value] : value
  if (values.length > maxFilterValues) throw invalidParameter(name, `must not have more than ${maxFilterValues} values`)
  return values
}

function integer (query: Query, name: string, min: number, max: number): number | undefined {
  const text = first(query[name])
  if (text === undefined) return undefined
  const value = /^-?\d{1,16}$/.test(text) ? Number(text) : NaN
  if (!(value >= min && value <= max)) throw invalidParameter(name, `must be an integer from ${min} to ${max}`)
  return value
}

/** `+x` or `x` asks for x; `-x` asks for everybody but x. */
function includingAndExcluding (query: Query, name: string, valueOf: (user: ClerkUser) => string | null): Test | undefined {
  const values = listOf(query, name)
  if (values === undefined) return undefined
  const excluded = new Set(values.filter(value => value.startsWith('-')).map(value => value.slice(1)))
  const included = new Set(values.filter(value => !value.startsWith('-')).map(value => value.replace(/^\+/, '')))
  return user => {
    const value = valueOf(user)
    return value === null ? included.size === 0 : !excluded.has(value) && (included.size === 0 || included.has(value))
  }
}

function oneOfThese (query: Query, name: string, valuesOf: (user: ClerkUser) => readonly string[]): Test | undefined {
  const wanted = listOf(query, name)
  return wanted && (user => valuesOf(user).some(value => wanted.includes(value)))
}

function partly (query: Query, name: string, valuesOf: (user: ClerkUser) => ReadonlyArray<string | null>): Test | undefined {
  const part = first(query[name])
  return part === undefined ? undefined : user => valuesOf(user).some(value => contains(value, part))
}

function banned (query: Query): Test | undefined {
  const text = first(query['banned'])
  if (text === undefined) return undefined
  if (text !== 'true' && text !== 'false') throw invalidParameter('banned', 'must be true or false')
  return user => user.banned === (text === 'true')
}

function compared (query: Query, name: string, test: (user: ClerkUser, at: number) => boolean): Test | undefined {
  const at = integer(query, name, 0, Number.MAX_SAFE_INTEGER)
  return at === undefined ? undefined : user => test(user, at)
}

function fullName (user: ClerkUser): string {
  return `${user.first_name ?? ''} ${user.last_name ?? ''}`.trim()
}
