/**
 * Programs that a server keeps, as it gives them to machines of the cluster: only nodes are heard. A machine asks for
 * the list of files, then for pieces of those that it does not have.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { PlatformPath } from '#apiserver/context.ts';
import { ApiError } from '#base/errors.ts';
import { nodeGroup } from '#base/node-identity.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { programPieceBytes } from '../limits.ts';
import type { Paths } from '../paths.ts';
import { findProgram, rootOf } from './program.ts';

export const programsPath = '/tiphys/programs';

export function programsEndpoint(paths: Paths): PlatformPath {
  return {
    group: nodeGroup,
    serve: async (body) => {
      const id = textOf(body, 'id') ?? '';
      const program = findProgram(paths, id);
      if (program === undefined) throw new ApiError('NotFound', `this server does not keep program ${id}`);
      const [path, offset] = [textOf(body, 'path'), Number(fieldOf(body, 'offset') ?? 0)];
      if (path === undefined) return program;
      // Only what is listed lies in the program.
      const file = program.files.find((each) => each.path === path);
      if (file === undefined || !Number.isSafeInteger(offset) || offset < 0)
        throw new ApiError('BadRequest', `program ${id} has no such piece`);
      return { data: (await readPiece(join(rootOf(paths, id), file.path), offset)).toString('base64') };
    },
  };
}

async function readPiece(path: string, offset: number): Promise<Buffer> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(programPieceBytes), 0, programPieceBytes, offset);
  return buffer.subarray(0, bytesRead);
}
