export { CoherenceChecker, violationsOf, type Bounds, type CoherenceReport, type Violation } from './coherence-checker.js'
export { Convergence } from './convergence.js'
export type { Answer, Commit, Read } from './observations.js'
export { TrustWatch, type TrustSample } from './trust-watch.js'
