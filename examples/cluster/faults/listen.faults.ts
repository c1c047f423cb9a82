import { scenarios } from '../src/scenarios/scenarios.js'
import { tryScenarios } from './fixtures/try-scenarios.js'

const { calm, halfOpenListen, deafListen, droppedListen, frozenListenBackend, listenThroughPgBouncer, everythingThroughPgBouncer } = scenarios
tryScenarios([calm, halfOpenListen, deafListen, droppedListen, frozenListenBackend, listenThroughPgBouncer, everythingThroughPgBouncer])
