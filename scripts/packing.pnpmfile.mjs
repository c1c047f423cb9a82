import { repositoryFields } from './repository-fields.mjs'

export const hooks = {
  /** What leaves the repository: a manifest without what only the repository can run, and with the address that scripts/pack.mjs was told. */
  beforePacking (manifest) {
    delete manifest.scripts
    delete manifest.devDependencies
    return Object.assign(manifest, repositoryFields(process.env.ORIENTOR_REPOSITORY, manifest.name))
  }
}
