/** Parts that vertices are made of again and again. */
import type { ExecMount } from './vertex.ts';

/** The root of a command, whose changes are its output. Its input is yet to be named. */
export const rootMount: ExecMount = {
  kind: 'bind',
  selector: '',
  target: '/',
  output: 0,
  isReadOnly: false,
  sizeBytes: 0,
  id: '',
  sharing: 'shared',
  owner: { uid: 0, gid: 0 },
  mode: 0,
  isOptional: false,
};
