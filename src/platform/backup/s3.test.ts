/** Objects of an S3 store are whole or not there, and read through what breaks. */
import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { s3PartBytes } from '../limits.ts';
import { backupFolder, backupPlace } from './places.ts';
import { s3AccessOf } from './s3-access.ts';
import { startS3, testAccess, type TestS3 } from './s3.testing.ts';

async function* chunks(bytes: Buffer, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}
async function all(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}
const accessTo = (s3: TestS3) => () => ({ ...testAccess, endpoint: s3.endpoint });
/** One that nobody reaches any more. */
async function ended(): Promise<TestS3> {
  const s3 = await startS3();
  await s3[Symbol.asyncDispose]();
  return s3;
}
const large = Buffer.alloc(2 * s3PartBytes + 12_345, 'backup');

describe('an S3 store', () => {
  it('holds what was written in parts, and gives it back through broken connections', async () => {
    await using s3 = await startS3();
    const place = backupPlace("s3://backups/a cluster/mon's (1)+2.age", accessTo(s3));
    s3.faults.busy = 2;
    assert.equal(await place.write(chunks(large, 1 << 20)), large.length);
    assert.equal(s3.requests.filter((line) => line.startsWith('PUT')).length, 3);
    s3.faults.broken = 3;
    assert.ok((await all(place.read())).equals(large));
    assert.equal(s3.faults.broken, 0);
  });

  it('holds nothing of what broke off while it was written', async () => {
    await using s3 = await startS3();
    const place = backupPlace('s3://backups/x', accessTo(s3));
    const broken = async function* (): AsyncGenerator<Uint8Array> {
      yield* chunks(large, 1 << 20);
      throw new Error('the server broke off');
    };
    await assert.rejects(place.write(broken()), /the server broke off/);
    assert.deepEqual([s3.objects.size, s3.uploads.size], [0, 0]);
  });

  it('lists and removes what lies below a prefix, page by page', async () => {
    await using s3 = await startS3();
    const folder = backupFolder('s3://backups/kept', accessTo(s3));
    for (const name of ['c', 'a', 'b', 'd&e', 'f']) await folder.place(name).write(chunks(Buffer.from(name), 1));
    s3.objects.set('other/x', Buffer.from('x'));
    assert.deepEqual(await folder.list(), ['a', 'b', 'c', 'd&e', 'f']);
    await folder.remove('b');
    assert.deepEqual([...s3.objects.keys()].sort(), ['kept/a', 'kept/c', 'kept/d&e', 'kept/f', 'other/x']);
  });

  it('says what is wrong, in its own words', async () => {
    await using s3 = await startS3();
    const bytes = Buffer.from('x');
    const wrong = () => ({ ...testAccess, secretAccessKey: 'another', endpoint: s3.endpoint });
    await assert.rejects(
      backupPlace('s3://backups/x', wrong).write(chunks(bytes, 1)),
      /SignatureDoesNotMatch: so it is/,
    );
    await assert.rejects(backupPlace('s3://nowhere/x', accessTo(s3)).write(chunks(bytes, 1)), /NoSuchBucket/);
    await assert.rejects(all(backupPlace('s3://backups/x', accessTo(s3)).read()), /NoSuchKey/);
    const gone = accessTo(await ended());
    await assert.rejects(
      backupPlace('s3://backups/x', gone).write(chunks(bytes, 1)),
      /does not answer: .*ECONNREFUSED/,
    );
    for (const name of ['s3://backups', 's3://backups/a/', 's3://B/x', 'gs://b/x', 'https://b/x'])
      assert.throws(() => backupPlace(name, accessTo(s3)), /s3:\/\/BUCKET\/KEY/);
  });
});

describe('access to an S3 store', () => {
  it("is what Amazon's clients take, from the environment or from files", () => {
    const home = mkdtempSync(join(tmpdir(), 'tiphys-s3-'));
    try {
      const [credentials, config] = [join(home, 'credentials'), join(home, 'config')];
      writeFileSync(
        credentials,
        '[default]\naws_access_key_id = A\naws_secret_access_key=a=b\n[work]\naws_access_key_id=W\naws_secret_access_key=w\n',
      );
      writeFileSync(config, '[profile work]\nregion = eu-west-9\nendpoint_url = http://s3.work/\n');
      const where = { HOME: home, AWS_SHARED_CREDENTIALS_FILE: credentials, AWS_CONFIG_FILE: config };
      assert.deepEqual(s3AccessOf(where), {
        endpoint: 'https://s3.us-east-1.amazonaws.com',
        region: 'us-east-1',
        accessKeyId: 'A',
        secretAccessKey: 'a=b',
      });
      assert.partialDeepStrictEqual(s3AccessOf({ ...where, AWS_PROFILE: 'work' }), {
        endpoint: 'http://s3.work',
        region: 'eu-west-9',
        accessKeyId: 'W',
      });
      const given = { AWS_ACCESS_KEY_ID: 'E', AWS_SECRET_ACCESS_KEY: 'e', AWS_SESSION_TOKEN: 't' };
      assert.deepEqual(s3AccessOf({ ...where, ...given, AWS_REGION: 'r', AWS_ENDPOINT_URL: 'http://h:9000' }), {
        endpoint: 'http://h:9000',
        region: 'r',
        accessKeyId: 'E',
        secretAccessKey: 'e',
        sessionToken: 't',
      });
      assert.throws(() => s3AccessOf({ HOME: '/nowhere' }), /AWS_ACCESS_KEY_ID/);
      assert.throws(() => s3AccessOf({ ...where, AWS_ENDPOINT_URL: 'here' }), /no URL/);
    } finally {
      rmSync(home, { recursive: true });
    }
  });
});
