/** Content: registry, images, builds, archives. */
import type { FoundCase } from './case.ts';

export const cases: FoundCase[] = [
  { id: 'R9', behaviour: 'A user of the registry writes below his own name only; an administrator writes everywhere.', file: 'src/registry/registry.test.ts', title: 'a user writes and deletes below his own name, an administrator everywhere, and the first user is one' },
  { id: 'R5', behaviour: 'Guessing passwords at the registry takes a bounded share of one core and keeps nobody else waiting.', file: 'src/registry/password-checks.test.ts', title: 'who guesses costs a bounded share of the time and makes nobody else wait for more than one check' },
  { id: 'DB8', behaviour: 'Uploads that one user abandons do not keep others from pushing.', file: 'src/registry/registry.test.ts', title: 'abandoned uploads of one user keep nobody from pushing, and go in time' },
  { id: 'DB3', behaviour: 'Requests that finish one upload at the same moment: one succeeds, none fails with 500.', file: 'src/registry/registry.test.ts', title: 'a finished upload is finished once, whoever else comes at the same moment' },
  { id: 'DB1', behaviour: 'A malformed escape in a path of the registry is answered with 400.', file: 'src/registry/registry.test.ts', title: 'escapes that are none are wrong names, not failures' },
  { id: 'DB10', behaviour: 'A manifest with impossible sizes, digests or annotations is refused.', file: 'src/registry/registry.test.ts', title: 'a manifest that says nonsense is refused' },
  { id: 'D17', behaviour: 'The registry asks for a credential on /v2/ although pulls are open, so that every client sends what it was given.', file: 'src/registry/registry.test.ts', title: '/v2/ asks who is there though pulls are open, and a token answers it' },
];
