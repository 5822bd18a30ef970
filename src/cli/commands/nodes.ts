/** `tiphys nodes`, `tiphys remove` and `tiphys recover`. */
import { realClock } from '#os/clock.real.ts';
import { recoverAlone } from '#platform/etcd/recover.ts';
import { listMachineNodes, removeMachineNode } from '#platform/machines.ts';
import { pathsOf } from '#platform/paths.ts';
import { print, seconds, table } from '../output.ts';
import { requireRoot } from './up.ts';

export async function nodesCommand(options: { json?: boolean }): Promise<void> {
  requireRoot('tiphys nodes');
  const nodes = await listMachineNodes(pathsOf(process.env));
  if (options.json === true) print(JSON.stringify(nodes));
  else
    print(
      table([
        ['NODE', 'ROLES', 'HEALTH', 'VERSION', 'MACHINE', 'PODS'],
        ...nodes.map((node) => [
          node.name,
          node.roles.join(','),
          node.health,
          node.version,
          node.address === '' ? '-' : node.address,
          node.podRange === '' ? '-' : node.podRange,
        ]),
      ]),
    );
}

export async function removeCommand(name: string): Promise<void> {
  requireRoot('tiphys remove');
  const begun = realClock.monotonic();
  await removeMachineNode(pathsOf(process.env), name);
  print(
    `Node ${name} is taken out of the cluster after ${seconds(realClock.monotonic() - begun)}; its certificates are refused from now on. What still runs there ends with 'tiphys leave' on it.`,
  );
}

export async function recoverCommand({ lost = '' }: { lost?: string }): Promise<void> {
  requireRoot('tiphys recover');
  const begun = realClock.monotonic();
  const names = lost.split(',').filter((name) => name !== '');
  const recovered = await recoverAlone(pathsOf(process.env), names);
  print(
    `The cluster goes on with ${recovered.server} alone after ${seconds(realClock.monotonic() - begun)}, with what it knew.`,
  );
  print(
    `Now take the lost ones out ('tiphys remove ${recovered.lost.join("', 'tiphys remove ")}'), and let others join ('tiphys token create --server').`,
  );
}
