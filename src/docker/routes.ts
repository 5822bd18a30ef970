/**
 * Every route of the engine's own resources. Images, builds and the registry's sides bring tables of their own
 * (images*.ts, build.ts, …).
 */
import { absentRoutes } from './absent.ts';
import { archiveRoutes } from './archive.ts';
import { containerRoutes } from './containers.ts';
import type { DockerParts } from './context.ts';
import { execRoutes } from './exec.ts';
import { networkRoutes } from './networks.ts';
import type { Route } from './route.ts';
import { statsRoutes } from './stats.ts';
import { systemRoutes } from './system.ts';
import { volumeRoutes } from './volumes.ts';

export function engineRoutes(parts: DockerParts): Route[] {
  return [
    ...absentRoutes(),
    ...systemRoutes(parts),
    ...containerRoutes(parts),
    ...archiveRoutes(parts),
    ...execRoutes(parts),
    ...statsRoutes(parts),
    ...networkRoutes(parts),
    ...volumeRoutes(parts),
  ];
}
