/** `tiphys nodes` and `tiphys remove`. */
import { realClock } from '#os/clock.real.ts';
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
