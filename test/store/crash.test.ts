import { it } from 'node:test';
import { runCrashes } from './crash.ts';

it('killing the process that holds the store loses nothing that was acknowledged', async () => {
  await runCrashes(8, () => undefined);
});
