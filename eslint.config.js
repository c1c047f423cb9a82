import neostandard, { resolveIgnoresFromGitignore } from 'neostandard'

// Only the shells know Fastify: the cores must load without it (tests prove the same on the built output).
const shells = ['packages/*/src/plugin.ts', 'packages/*/src/routes/**', 'packages/*/src/*-routes.ts', 'packages/session-contract/src/hub/**']

export default [
  ...neostandard({ ts: true, ignores: [...resolveIgnoresFromGitignore(), '**/.tap/**'] }),
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: ['packages/test-kit/**', 'packages/clerk-simulator/**', ...shells],
    rules: {
      '@typescript-eslint/no-restricted-imports': ['error', {
        paths: ['fastify', 'fastify-plugin'].map(name => ({ name, message: 'Only plugin.ts and route files import Fastify; ./core must load without it.' }))
      }]
    }
  }
]
