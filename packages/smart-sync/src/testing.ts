export {
  identityProviderConformance, type DirectoryUser, type ProviderCase, type ProviderHarness
} from './identity-provider-conformance.js'
