/**
 * Reads the rows of a list of keys at once. A text that the database cannot hold, such as a letter that its encoding
 * lacks, fails the whole statement: then each half is read by itself, until that text stands alone, and has no rows.
 *
 * @param isUnholdable - whether that is why a read failed; every other failure is thrown
 */
export async function readInHalves<K, R> (
  keys: readonly K[], read: (keys: readonly K[]) => Promise<readonly R[]>, isUnholdable: (error: unknown) => boolean
): Promise<readonly R[]> {
  try {
    return await read(keys)
  } catch (error) {
    if (!isUnholdable(error)) throw error
    if (keys.length <= 1) return []
    const middle = Math.ceil(keys.length / 2)
    const first = await readInHalves(keys.slice(0, middle), read, isUnholdable)
    return [...first, ...await readInHalves(keys.slice(middle), read, isUnholdable)]
  }
}
