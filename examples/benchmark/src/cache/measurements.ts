import { bytesPer } from './bytes.js'
import { hitRates } from './hit-rate.js'
import { productFigures } from './product-figures.js'
import { storeFigures } from './store-figures.js'

/** Every measurement that runs in a process of its own, by name. */
export const measurements = { storeFigures, productFigures, hitRates, bytesPer } as const

export type Measurements = typeof measurements
