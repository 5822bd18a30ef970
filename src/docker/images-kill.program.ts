/**
 * For images-kill.root.test.ts: a program that pulls, loads, names, pushes and removes images of several platforms at
 * random, until it is killed. Arguments: directory of the content, domain of a registry, archive, seed.
 */
import { ApiError } from '#base/errors.ts';
import { hostPlatform } from '#base/platform.ts';
import { bytesOf, openTestContent } from '#content/testing.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { readBytes } from '#os/named-files.ts';
import { ann, makeStore } from './testing.ts';

const [directory = '', domain = '', archive = '', seed = '0'] = process.argv.slice(2);
const random = new SimRandom(Number(seed));
const pick = <T>(things: readonly T[]): T => {
  const thing = things[Math.floor(random.float() * things.length)];
  if (thing === undefined) throw new Error('nothing to choose from');
  return thing;
};
// It is killed: nothing is to be put away.
const scope = { after: () => {} };
const { images, content } = await makeStore(scope, {}, await openTestContent(scope, directory));
const remote = [`${domain}/x:1`, `${domain}/y:1`];
const names = [...remote, 'a:1', 'b:1', `${domain}/pushed:1`];
const platforms = [hostPlatform(), { os: 'linux', architecture: 'arm64' }];

const steps: (() => Promise<unknown>)[] = [
  () => images.pull(pick(remote), { platform: pick(platforms) }),
  () => images.load(bytesOf(readBytes(archive, 0, 1 << 20)), () => {}),
  () => images.load(bytesOf(readBytes(archive, 0, 1 << 20)), () => {}, [pick(platforms)]),
  () => images.tag(pick(names), pick(['a:1', 'b:1', `${domain}/pushed:1`])),
  () => images.push(`${domain}/pushed:1`, { credential: ann }),
  () => images.remove(pick(names)),
  () => images.remove(pick(names), { platforms: [pick(platforms)], force: true }),
  () => content.collect({ evenYoung: false }),
];

async function live(): Promise<void> {
  for (;;) {
    // What is not there cannot be named, pushed or removed.
    try {
      await pick(steps)();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
    process.stdout.write('.');
  }
}

process.stdout.write('!');
await Promise.all([live(), live()]);
