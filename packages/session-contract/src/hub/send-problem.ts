import type { FastifyReply } from 'fastify'
import type { ProblemDocument } from '../problem-document.js'

/** Answers with a problem document, under its status. */
export function sendProblem (reply: FastifyReply, problem: ProblemDocument): FastifyReply {
  // As text: a schema of the route, or a serializer of the app, must not reshape it.
  return reply.code(problem.status).type('application/problem+json; charset=utf-8').send(JSON.stringify(problem))
}
