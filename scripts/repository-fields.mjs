/**
 * The fields of a manifest that say where the package comes from. npm accepts provenance only where `repository` is the repository that the workflow ran in.
 *
 * @param {string} [address] - such as https://github.com/owner/name, without credentials; left out: there are no fields
 * @param {string} name - of the package
 * @throws where the address is none
 */
export function repositoryFields (address, name) {
  if (address === undefined || address === '') return {}
  // The address is published; one from `git remote` may hold a password.
  if (!/^https:\/\/[\w.-]+(:\d+)?(\/[\w.-]+){2,}$/.test(address) || address.endsWith('.git')) {
    throw new Error('The address of the repository must be like https://github.com/owner/name, without user, password, query and ".git". Mend --repository.')
  }
  const directory = `packages/${name.slice(name.indexOf('/') + 1)}`
  return {
    repository: { type: 'git', url: `git+${address}.git`, directory },
    homepage: `${address}/tree/HEAD/${directory}#readme`,
    bugs: { url: `${address}/issues` }
  }
}
