/**
 * What `docker logs --details` shows before each line: what its driver tells of the container, as `key=value` joined by
 * commas, in the order of their names.
 */
import { fieldOf, namedTextsOf } from '#base/unknown.ts';
import type { Container } from '#engine/container.ts';
import { extraAttributes, tagOf } from '#engine/log-drivers/attributes.ts';
import { infoOf } from '#engine/log-drivers/open.ts';
import type { DockerParts } from './context.ts';

export function logAttributes(parts: DockerParts, container: Container): string {
  const config = namedTextsOf(fieldOf(container.record.spec.request, 'HostConfig', 'LogConfig', 'Config'));
  const info = infoOf(parts.engine.table, container, { name: '', options: config });
  const out = extraAttributes(info);
  if ((config['tag'] ?? '') !== '') out['tag'] = tagOf(info);
  // As in a URL's query, but that a blank is `%20`.
  return Object.entries(out)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`)
    .join(',');
}
