/**
 * What a machine does that was told to run another program: it takes it from a server that keeps it, in pieces and
 * checked by their digests, and switches to it. Runs as a process of its own (`follow-program.ts`), which outlives the
 * node's.
 */
import { appendFileSync, writeFileSync } from 'node:fs';
import { ApiError, isReason } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { textOf } from '#base/unknown.ts';
import { createHttpTransport } from '#client/transport-http.ts';
import { realClock } from '#os/clock.real.ts';
import { instanceHere, nodeCredentials } from '../cluster-access.ts';
import { nodePlan } from '../instance.ts';
import { hostName } from '../host.ts';
import { knownServers, serverOf } from '../known-servers.ts';
import { programAskMsMax } from '../limits.ts';
import { packageRoot, type Paths } from '../paths.ts';
import type { Order } from './orders.ts';
import { checkFile, findProgram, keepProgram, readProgram, storeProgram, type Program } from './program.ts';
import { loadRecord, saveRecord } from './record.ts';
import { programsPath } from './serve-programs.ts';
import { switchProgram, withUpgradeLock } from './switch-program.ts';
import { finishHere } from './upgrade.ts';

export async function takeProgram(paths: Paths, { id, attempt, isFinal }: Order): Promise<void> {
  // Who waits in vain for another one has followed nothing.
  await withUpgradeLock(paths, async () => {
    if (loadRecord(paths)?.attempt === attempt) return;
    try {
      // Most of what comes is there already.
      await keepProgram(paths, packageRoot);
      await switchProgram(paths, findProgram(paths, id) ?? (await fetchProgram(paths, id)));
      if (isFinal) await finishHere(paths);
      saveRecord(paths, { ...loadRecord(paths), attempt });
    } catch (error) {
      saveRecord(paths, { ...loadRecord(paths), attempt, failed: { id, attempt, reason: messageOf(error) } });
      throw error;
    }
  });
}

/** From the first server that has all of it. */
async function fetchProgram(paths: Paths, id: string): Promise<Program> {
  const instance = instanceHere(paths);
  const reasons: string[] = [];
  for (const server of knownServers(paths, serverOf(instance, nodePlan(instance, 1, hostName()))))
    try {
      return await fetchFrom(paths, server, id);
    } catch (error) {
      // Another server has no other disk for it.
      if (isReason(error, 'InternalError')) throw error;
      reasons.push(`${server}: ${messageOf(error)}`);
    }
  throw new ApiError('ServiceUnavailable', `no server gives program ${id}: ${reasons.join('; ')}`);
}

async function fetchFrom(paths: Paths, server: string, id: string): Promise<Program> {
  await using transport = createHttpTransport({ server, ...nodeCredentials(paths), clock: realClock });
  const ask = (body: object): Promise<unknown> =>
    transport.send({ method: 'POST', path: programsPath, body, signal: AbortSignal.timeout(programAskMsMax) });
  const program = readProgram(id, await ask({ id }));
  await storeProgram(paths, program, async (file, target) => {
    writeFileSync(target, '');
    for (let offset = 0; offset < file.bytes;) {
      const piece = Buffer.from(textOf(await ask({ id, path: file.path, offset }), 'data') ?? '', 'base64');
      if (piece.length === 0 || offset + piece.length > file.bytes)
        throw new ApiError('BadRequest', `${file.path} is not as long as was said`);
      appendFileSync(target, piece);
      offset += piece.length;
    }
    checkFile(file, target);
  });
  return program;
}
