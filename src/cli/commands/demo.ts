/** `tiphys demo`: an application through its whole life, each step checked, with a table of times at the end. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, stackOf } from '#base/thrown.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { imageTools, installPackages, missingTools } from '#platform/packages.ts';
import { localNodes } from '#platform/local-nodes.ts';
import { files, packageRoot, pathsOf } from '#platform/paths.ts';
import { bringUp } from '#platform/up.ts';
import { createDemo, type Demo } from '../demo/demo.ts';
import { steps } from '../demo/steps.ts';
import { print, seconds, table } from '../output.ts';
import { choicesOf, prepareMachine, requireRoot, type PlatformOptions } from './up.ts';

export async function demo(options: PlatformOptions & { keepGoing?: boolean; ownClients?: boolean }): Promise<void> {
  requireRoot('tiphys demo');
  const paths = pathsOf(process.env, options.data);
  const extra = missingTools(linuxProcesses, imageTools);
  const listing = extra.map((tool) => `package  ${tool.package}, by apt-get (${tool.why})`);
  if (
    !(await prepareMachine(paths, options, [
      ...listing,
      ...(listing.length > 0 ? ["images   debian:bookworm-slim and busybox, and the demo's three"] : []),
    ]))
  )
    return;
  await installPackages(linuxProcesses, paths, extra, (line) => print(`  ${line}`));

  const rows: string[][] = [];
  let failures = 0;
  const begun = realClock.monotonic();
  const timed = async (title: string, run: () => Promise<string | void>): Promise<boolean> => {
    const startedMs = realClock.monotonic();
    process.stdout.write(`• ${title} …\n`);
    try {
      const note = (await run()) ?? '';
      const took = seconds(realClock.monotonic() - startedMs);
      print(`  done in ${took}${note === '' ? '' : `: ${note}`}`);
      rows.push([title, took, 'ok', note]);
      return true;
    } catch (error) {
      failures += 1;
      const message = messageOf(error);
      print(`  FAILED after ${seconds(realClock.monotonic() - startedMs)}: ${message}`);
      if (process.env['TIPHYS_DEBUG'] !== undefined) print(stackOf(error));
      rows.push([
        title,
        seconds(realClock.monotonic() - startedMs),
        'FAILED',
        message.replace(/\n.*/s, '').slice(0, 100),
      ]);
      return options.keepGoing === true;
    }
  };

  let world: Demo | undefined;
  const upOk = await timed('start the platform', async () => {
    const { instance, notes } = await bringUp(paths, choicesOf(options));
    for (const note of notes) print(`  note: ${note}`);
    const results = join(paths.run, 'demo');
    mkdirSync(results, { recursive: true });
    world = await createDemo({
      instance,
      paths,
      results,
      examples: join(packageRoot, 'examples/demo'),
      choices: choicesOf(options),
      ownClients: options.ownClients === true,
    });
    const nodes = localNodes(paths).length;
    return `${nodes} node${nodes === 1 ? '' : 's'}; through ${world.docker.name} and ${world.kube.name}`;
  });
  const opened: Demo | undefined = world;
  if (upOk && opened !== undefined)
    for (const step of steps) if (!(await timed(step.title, () => step.run(opened)))) break;
  await opened?.[Symbol.asyncDispose]();

  print();
  print(
    table([
      ['STEP', 'TIME', 'RESULT', ''],
      ...rows,
      ['total', seconds(realClock.monotonic() - begun), failures === 0 ? 'ok' : `${failures} failed`, ''],
    ]),
  );
  if (failures > 0 || opened === undefined) {
    print(`\nA step failed. Logs: ${files.logs(paths)}`);
    process.exitCode = 1;
    return;
  }
  print(`
The application goes on running:
  page      http://127.0.0.1:${opened.instance.httpPort}/          (Ingress)
  API       http://127.0.0.1:${opened.instance.httpPort}/api/      (Ingress), http://127.0.0.1:${opened.apiNodePort}/ (NodePort)
  load log  ${opened.results}
Next:
  docker --context tiphys ps
  kubectl --context tiphys get pods -A
  eval "$(./tiphys env)"
  ./tiphys down`);
}
