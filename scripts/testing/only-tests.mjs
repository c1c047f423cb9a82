/**
 * The environment in which tap leaves out every test but those whose titles contain these words, level by level. They are no cases.
 *
 * @param {string} titles - as they are listed when they fail: `title › title inside`
 * @returns {Record<string, string>}
 */
export function onlyTests (titles) {
  return { TAP_GREP: titles.split(' › ').map(title => title.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('\n') }
}
