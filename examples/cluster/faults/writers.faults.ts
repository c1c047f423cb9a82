import { scenarios } from '../src/scenarios/scenarios.js'
import { tryScenarios } from './fixtures/try-scenarios.js'

const { twoPhases, leftOpen, crowd, lockedOutbox } = scenarios
tryScenarios([twoPhases, leftOpen, crowd, lockedOutbox])
