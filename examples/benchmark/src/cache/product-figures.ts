import { productHit, type ProductHitTimes } from './hit.js'
import type { Sizes } from './sizes.js'
import { worstProductSet, type WorstProductSet } from './worst-product-set.js'

/** What is measured of the whole cache. */
export interface ProductFigures {
  readonly hit: ProductHitTimes
  readonly set: { readonly small: WorstProductSet, readonly large: WorstProductSet }
}

export async function productFigures ({ small, large, runs }: Sizes): Promise<ProductFigures> {
  return {
    hit: await productHit(small, large),
    set: { small: await worstProductSet(small, runs), large: await worstProductSet(large, runs) }
  }
}
