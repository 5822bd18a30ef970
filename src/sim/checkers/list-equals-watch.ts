/** A list at rest equals the replay of a watch from the beginning, object for object and version for version. */
import type { KubeObject } from '#base/objects.ts';
import { Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import { silentLogger } from '#observe/log.ts';
import type { Checker, World } from '../world.ts';

const watched = [kinds.Pod, kinds.ReplicaSet, kinds.Deployment, kinds.Job, kinds.EndpointSlice, kinds.ConfigMap];

export function listEqualsWatch(): Checker {
  const name = 'list-equals-watch';
  let informers: Informer[] | undefined;
  return {
    name,
    onTick({ cluster }: World) {
      if (informers !== undefined) return;
      informers = watched.map((kind) => new Informer(kind, { client: cluster.client, clock: cluster.clock, random: cluster.random, log: silentLogger }));
      for (const informer of informers) informer.start();
    },
    async atRest(world) {
      for (const informer of informers ?? []) {
        const list = await world.cluster.client.list(informer.kind);
        const listed = new Map(list.items.map((object: KubeObject) => [keyOf(object), object.metadata.resourceVersion]));
        for (const [key, version] of listed) {
          const seen = informer.get(key)?.metadata.resourceVersion;
          if (seen !== version) world.report(name, `${informer.kind.resource} ${key} is listed at ${version} and was watched at ${seen ?? 'never'}`);
        }
        for (const key of informer.keys()) if (!listed.has(key)) world.report(name, `${informer.kind.resource} ${key} was watched and is not listed`);
        await informer.stop();
      }
      informers = undefined;
    },
  };
}
