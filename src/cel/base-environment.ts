/** The functions that every expression of Kubernetes 1.37 may call. */
import { functionsOf } from './declare.ts';
import type { Overload } from './environment.ts';
import { listsLibrary, optionalLibrary, setsLibrary, stringsLibrary } from './extensions.ts';
import { kubernetesLibrary } from './kubernetes.ts';
import { standardLibrary } from './standard.ts';

export const baseFunctions: ReadonlyMap<string, readonly Overload[]> = functionsOf(
  standardLibrary,
  stringsLibrary,
  setsLibrary,
  listsLibrary,
  optionalLibrary,
  kubernetesLibrary,
);
