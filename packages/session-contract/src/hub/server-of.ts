import type { FastifyInstance } from 'fastify'

/** The server that this scope is part of: Fastify makes each scope an object that inherits from the one around it. */
export function serverOf (scope: FastifyInstance): FastifyInstance {
  let outermost: object = scope
  for (let parent: object | null = scope; parent !== null && 'addHook' in parent; parent = Object.getPrototypeOf(parent) as object | null) {
    outermost = parent
  }
  return outermost as FastifyInstance
}
