/** What a full disk of this machine means for the cluster, in words. */
import { fileSystemAt } from '#os/files.ts';
import { runsServer, type Instance } from './instance.ts';
import { diskBytesMin } from './limits.ts';
import type { Paths } from './paths.ts';

/** Nothing while there is room. */
export function diskProblems(paths: Paths, instance: Instance): string[] {
  const { availableBytes } = fileSystemAt(paths.data);
  if (availableBytes >= diskBytesMin) return [];
  const left = `the disk of this machine is full (${Math.floor(availableBytes / 1e6)} MB left for ${paths.data})`;
  if (!runsServer(instance)) return [`${left}: nothing starts here until there is room`];
  return [
    instance.member === undefined
      ? `${left}: the API takes no writes until there is room`
      : `${left}: its etcd ends without room, and begins again by itself when there is some; the API writes through the other servers meanwhile`,
  ];
}
