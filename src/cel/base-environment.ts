/** The functions that every expression of Kubernetes 1.37 may call. */
import { functionsOf } from './declare.ts';
import type { Overload } from './environment.ts';
import { listsLibrary, optionalLibrary, setsLibrary, stringsLibrary } from './extensions.ts';
import { authorizerLibrary } from './authorizer.ts';
import { jsonPatchLibrary, kubernetesLibrary } from './kubernetes.ts';
import { standardLibrary } from './standard.ts';

export const baseFunctions: ReadonlyMap<string, readonly Overload[]> = functionsOf(
  standardLibrary,
  stringsLibrary,
  setsLibrary,
  listsLibrary,
  optionalLibrary,
  kubernetesLibrary,
  authorizerLibrary,
);

/** Those of a MutatingAdmissionPolicy. */
export const mutationFunctions: ReadonlyMap<string, readonly Overload[]> = new Map([
  ...baseFunctions,
  ...functionsOf(jsonPatchLibrary),
]);
