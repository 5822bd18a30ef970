/**
 * Builds within builds: a definition that a step wrote into a file. It is checked as a client's own is; how deep they lie
 * in each other is bounded, since a definition may hold itself.
 */
import { ApiError } from '#base/errors.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { lstatSync, readBytes } from '#os/named-files.ts';
import { decodeMessage } from '../grpc/messages.ts';
import { nestedBuildsMax, nestedDefinitionBytesMax } from '../limits.ts';
import { decodeDefinition } from './codec.ts';
import { layersOf } from './output.ts';
import type { StepLayer } from './output.ts';
import type { BuildOp, Edge } from './vertex.ts';
import { openView } from './view.ts';
import type { SolverContext } from './work.ts';

/** Throws BadRequest. `steps`: what the file lies in. */
export async function readNested(
  context: SolverContext,
  { path }: BuildOp,
  steps: readonly StepLayer[],
): Promise<Edge | undefined> {
  if ((context.build.depth ?? 0) >= nestedBuildsMax)
    throw new ApiError('BadRequest', `builds within builds are at most ${nestedBuildsMax} deep`);
  const { root, release } = await openView(context, layersOf(steps));
  try {
    const file = new RootedDirectory(root).resolve(pathParts(path));
    const info = file === undefined ? undefined : lstatSync(file);
    if (file === undefined || info?.isFile() !== true)
      throw new ApiError('BadRequest', `open ${path.slice(0, 200)}: no such file or directory`);
    if (info.size > nestedDefinitionBytesMax)
      throw new ApiError(
        'BadRequest',
        `${path.slice(0, 200)} exceeds maximum allowed size of ${nestedDefinitionBytesMax} bytes`,
      );
    return decodeDefinition(decodeMessage('pb.Definition', readBytes(file, 0, info.size)));
  } finally {
    await release();
  }
}
