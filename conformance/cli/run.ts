/** `conformance/cli/run`: tries the docker client's commands and flags; see cases.ts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { askDocker, listUntried, readCases, readExceptions, runCases, type Setting } from './cases.ts';
import { readCommands } from './commands.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { client: { type: 'string', default: 'docker' }, registry: { type: 'string' }, only: { type: 'string' } },
});
const [socket] = positionals;
if (socket === undefined) throw new Error('usage: conformance/cli/run SOCKET [--client …] [--registry …] [--only …]');

const exceptions = readExceptions();
const commands = await readCommands(values.client);
const cases = readCases();
const untried = listUntried(commands, cases, exceptions);
for (const what of untried) console.log(`not tried, and no reason is given: ${what}`);

const directory = mkdtempSync(join(tmpdir(), 'tcli-'));
try {
  const asked = { client: values.client, socket };
  const setting: Setting = {
    ...asked,
    directory,
    run: `tcli${process.pid}`,
    cgroupVersion: await askDocker(asked, ['info', '-f', '{{.CgroupVersion}}']),
    ...(values.registry === undefined ? {} : { registry: values.registry }),
  };
  const chosen = cases.filter(
    (one) =>
      one.title.includes(values.only ?? '') &&
      one.flags.every((flag) => (commands.get(one.command) ?? new Set()).has(flag)) &&
      (!one.needs.includes('registry') || values.registry !== undefined),
  );
  // Not within the first case, whose output would have its progress.
  await askDocker(setting, ['pull', '-q', 'busybox']);
  const results = await runCases(chosen, setting, {
    atOnce: 3,
    report({ case: one, passed, printed }) {
      if (passed) return;
      console.log(`FAILED ${one.title}\n--- wanted`);
      for (const line of one.expected) console.log(`${line.pattern ? '~' : ' '} ${line.text}`);
      console.log(`--- printed\n${printed.replace(/^/gm, '  ')}`);
    },
  });
  const failed = results.filter((one) => !one.passed).length;
  const left = cases.length - chosen.length;
  console.log(`${results.length - failed} passed, ${failed} failed, ${left} skipped, ${untried.length} untried`);
  process.exitCode = failed > 0 || untried.length > 0 ? 1 : 0;
} finally {
  rmSync(directory, { recursive: true, force: true });
}
