import { scenarios } from '../src/scenarios/scenarios.js'
import { tryScenarios } from './fixtures/try-scenarios.js'

const { stoppedInstance, clockForth, clockBack, stalledLoop } = scenarios
tryScenarios([stoppedInstance, clockForth, clockBack, stalledLoop])
