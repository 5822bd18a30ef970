/** Builds: what a Dockerfile may have at work at a time. */
import { createContainerRunner } from '#build/runner-containers.ts';
import type { RunRequest } from '#build/runner.ts';
import type { HostileRow } from './row.ts';

/** How many containers run at most when so many steps are begun at once. */
async function mostAtOnce(steps: number): Promise<number> {
  let running = 0;
  let most = 0;
  const containers = {
    create: async () => {
      running++;
      most = Math.max(most, running);
      return '';
    },
    attach: async () => undefined,
    start: async () => undefined,
    kill: async () => undefined,
    wait: async () => {
      await new Promise((done) => setImmediate(done));
      running--;
      return 0;
    },
  };
  const runner = createContainerRunner({
    containers: containers as never,
    onNetwork: () => ({ networks: [] }),
  });
  const request = (id: number): RunRequest =>
    ({
      id: String(id),
      imageId: 'i',
      command: ['x'],
      env: [],
      mounts: [],
      network: 'default',
      extraHosts: [],
      onOutput: () => undefined,
      signal: new AbortController().signal,
    }) as unknown as RunRequest;
  await Promise.all(Array.from({ length: steps }, (_, id) => runner.run(request(id))));
  return most;
}

export const rows: HostileRow[] = [
  {
    name: 'Steps of independent stages run side by side',
    input: 'two hundred stages at once',
    bound: 'src/build/limits.ts#stepsInParallelMax',
    run: async () => `${await mostAtOnce(200)} at most`,
    answer: /^8 at most$/,
  },
];
