import { it } from 'node:test';
import { runCrashes, runCrashesAt } from './crash.ts';
import { etcdPrograms, noEtcd, startEtcd } from './etcd.ts';

it('killing the process that holds the store loses nothing that was acknowledged', async () => {
  await runCrashes(8, () => undefined);
});

it('killing a server loses nothing that etcd has acknowledged to it', { skip: noEtcd }, async () => {
  const [program = ''] = etcdPrograms();
  await using etcd = await startEtcd(program);
  const [endpoint = ''] = etcd.endpoints;
  await runCrashesAt(
    8,
    (round) => `${endpoint}/crash-${round}`,
    () => undefined,
  );
});
