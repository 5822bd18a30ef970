/**
 * `local://NAME`: a directory of the client, by the patterns that the vertex's attributes give; or an archive that it
 * sends, where they name one.
 */
import { itemsOf } from '#base/unknown.ts';
import type { Builder } from '../builder.ts';
import type { BuildContext } from '../context.ts';
import type { VertexOutput } from '../llb/output.ts';
import { readUpload, syncDirectory } from './file-sync.ts';
import type { Session } from './session.ts';

export interface LocalRequest {
  builder: Pick<Builder, 'receiveContext'>;
  session: Session;
  name: string;
  attributes: Readonly<Record<string, string>>;
  output: VertexOutput;
  signal: AbortSignal;
}

/** Attributes hold lists as JSON. */
function listIn(attributes: LocalRequest['attributes'], name: string): string[] {
  const text = attributes[name];
  if (text === undefined || text === '') return [];
  return itemsOf(JSON.parse(text)).filter((item) => typeof item === 'string');
}

/** Path under which the session serves an archive, and that of the Dockerfile in it. */
export const archiveAttribute = 'tiphys.archive';
export const dockerfileAttribute = 'tiphys.dockerfile';

/** What the client sends of the directory. It has applied the patterns already. */
export async function receiveLocal(request: LocalRequest): Promise<BuildContext> {
  const { builder, session, name, attributes, output, signal } = request;
  const { [archiveAttribute]: archive, [dockerfileAttribute]: dockerfile = '' } = attributes;
  if (archive !== undefined)
    return builder.receiveContext(readUpload(session, archive, signal), { dockerfile, signal });
  let bytes = 0;
  const shown = `transferring ${attributes['local.sharedkeyhint'] ?? name}:`;
  const source = syncDirectory(session, {
    name,
    include: listIn(attributes, 'local.includepattern'),
    exclude: listIn(attributes, 'local.excludepatterns'),
    follow: listIn(attributes, 'local.followpaths'),
    signal,
    onBytes: (count) => {
      bytes += count;
      output.count(shown, bytes);
    },
  });
  const context = await builder.receiveContext(source, { dockerfile: '', ignore: '', signal });
  output.count(shown, bytes, true);
  return context;
}
