import { bytesPer, bytesPerEntry } from './bytes.js'
import { productHit, storeHit } from './hit.js'
import { hitRates } from './hit-rate.js'
import { worstProductSet } from './worst-product-set.js'
import { worstSet } from './worst-set.js'

/** Every measurement, by name. */
export const measurements = { storeHit, productHit, worstSet, worstProductSet, hitRates, bytesPer, bytesPerEntry } as const

export type Measurements = typeof measurements
