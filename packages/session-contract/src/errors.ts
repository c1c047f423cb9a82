import createError, { type FastifyErrorConstructor } from '@fastify/error'

/** The constructor of a coded error: its code is a literal type, its arguments fill the message. */
export type CodedError<C extends string, A extends [unknown?, unknown?, unknown?] = []> = FastifyErrorConstructor<{ code: C }, A>

/** Coded errors of the contract. Match by `code`, never by message or class: two copies of the package may be loaded. */
export interface ContractErrors {
  /** An issuer or subject that cannot name a user. */
  readonly InvalidSessionKey: CodedError<'ORI_CONTRACT_INVALID_SESSION_KEY', [string]>
  /** A plugin option that breaks its rule. */
  readonly InvalidOption: CodedError<'ORI_CONTRACT_INVALID_OPTION', [string]>
  /** `config.session` of a route that breaks its rule. The route answers with this error until it is mended. */
  readonly InvalidRouteSession: CodedError<'ORI_CONTRACT_INVALID_ROUTE_SESSION', [string]>
  /** The app, or another plugin, owns a request decorator that the contract needs. */
  readonly ForeignDecorator: CodedError<'ORI_CONTRACT_FOREIGN_DECORATOR', [string]>
  /** Two copies of the package that do not speak the same protocol. */
  readonly IncompatibleCopies: CodedError<'ORI_CONTRACT_INCOMPATIBLE_COPIES', [string, string]>
  /** Two owners for one slot in one scope. */
  readonly SlotTaken: CodedError<'ORI_CONTRACT_SLOT_TAKEN', [string, string, string]>
  /** A slot filled after the first request was served. */
  readonly SlotTooLate: CodedError<'ORI_CONTRACT_SLOT_TOO_LATE', [string, string]>
  /** Routes that demand a session outside of every scope with a session plugin. */
  readonly RouteOutOfScope: CodedError<'ORI_CONTRACT_ROUTE_OUT_OF_SCOPE', [string]>
  /** A slot that answered with something else than it must. Never thrown: the cause of a `failed` outcome. */
  readonly InvalidAnswer: CodedError<'ORI_CONTRACT_INVALID_ANSWER', [string, string, string]>
  /** `requireSessionUser()` where no plugin resolves users. */
  readonly NoResolver: CodedError<'ORI_SESSION_NO_RESOLVER'>
  /** A defect, not an outage, while a session was resolved; the cause is attached and logged, never sent. */
  readonly ResolutionFailed: CodedError<'ORI_SESSION_RESOLUTION_FAILED', [{ readonly cause: unknown }]>
}

/** The errors of this package, by name. */
export const errors: ContractErrors = {
  InvalidSessionKey: createError('ORI_CONTRACT_INVALID_SESSION_KEY', '%s', 500, TypeError),
  InvalidOption: createError('ORI_CONTRACT_INVALID_OPTION', '%s', 500, TypeError),
  InvalidRouteSession: createError('ORI_CONTRACT_INVALID_ROUTE_SESSION', '%s', 500, TypeError),
  ForeignDecorator: createError('ORI_CONTRACT_FOREIGN_DECORATOR',
    'request.%s is already decorated by something else. The rule: the session plugins own request.identity, request.sessionUser and request.sessionOutcome. Rename the other decorator, or register the session plugins in a scope without it.', 500),
  IncompatibleCopies: createError('ORI_CONTRACT_INCOMPATIBLE_COPIES',
    'Two incompatible copies of @orientor/session-contract are loaded (protocol %s and %s). The rule: one major version per application. Run "npm ls @orientor/session-contract" and align the versions.', 500),
  SlotTaken: createError('ORI_CONTRACT_SLOT_TAKEN',
    'The slot "%s" is filled by %s already; %s cannot fill it too. The rule: one owner per slot and scope. Register one of them only, or register the second in a child scope.', 500),
  SlotTooLate: createError('ORI_CONTRACT_SLOT_TOO_LATE',
    'The slot "%s" cannot be filled by %s any more. The rule: slots are filled during registration. Register the plugin before the server is ready.', 500),
  RouteOutOfScope: createError('ORI_CONTRACT_ROUTE_OUT_OF_SCOPE',
    'config.session.required is true on a route where no session plugin is in scope: %s. The rule: such a route must stand in the scope of a session plugin, or below it. Register the plugins where the route is, or above it (a plugin of your own that registers them needs fastify-plugin), or take the demand away.', 500),
  InvalidAnswer: createError('ORI_CONTRACT_INVALID_ANSWER',
    'The slot "%s" must answer with %s, or a promise of one; received %s.', 500),
  NoResolver: createError('ORI_SESSION_NO_RESOLVER',
    'No plugin in scope resolves users. The rule: requireSessionUser(request) needs an identity and a resolver. Register @orientor/session-cache or @orientor/smart-sync (and @orientor/session-identity) in the scope of this route.', 500),
  ResolutionFailed: createError('ORI_SESSION_RESOLUTION_FAILED', 'The session could not be resolved because of a defect. See the cause in the log.', 500)
}

/** Codes of the errors above. */
export type ContractErrorCode = InstanceType<ContractErrors[keyof ContractErrors]>['code']
