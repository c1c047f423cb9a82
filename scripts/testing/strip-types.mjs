// Lets Node.js run the TypeScript of this repository as it stands: node --import ./scripts/testing/strip-types.mjs packages/<name>/test/<file>.test.ts
import { register } from 'node:module'

register('./strip-types-hooks.mjs', import.meta.url)
