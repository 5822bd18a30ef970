/** What the history keeps of builds beside their words: documents, which clients read out of the store. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GrpcError, code } from '#grpc/errors.ts';
import { bytesIn, messageIn, messagesIn, numberIn, textIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import { decodeMessage } from './messages.ts';
import { control, dockerfile, forever, makeBench } from './testing.ts';
import type { Bench } from './testing.ts';

const content = (name: string): string => `/containerd.services.content.v1.Content/${name}`;

async function ask(bench: Bench, path: string, request: Message): Promise<Message[]> {
  using stream = bench.client.open(path, {}, forever);
  await stream.send(request);
  stream.end();
  const answers: Message[] = [];
  for await (const message of stream.messages) answers.push(message);
  return answers;
}

async function newestRecord(bench: Bench): Promise<Message> {
  const [event = {}] = await ask(bench, control('ListenBuildHistory'), { EarlyExit: true, Limit: 1 });
  return messageIn(event, 'record');
}

async function read(bench: Bench, digest: string, range: Message = {}): Promise<Buffer> {
  const answers = await ask(bench, content('Read'), { digest, ...range });
  return Buffer.concat(answers.map((answer) => bytesIn(answer, 'data')));
}

test('a build that went well is kept with how it was made', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nRUN ["write","/a","1"]\n') });
  await bench.build({}, { FrontendAttrs: { 'attest:provenance': 'mode=min,builder-id=me' } });
  const [document = {}] = messagesIn(messageIn(await newestRecord(bench), 'Result'), 'Attestations');
  assert.equal((document['annotations'] as Message)['in-toto.io/predicate-type'], 'https://slsa.dev/provenance/v1');
  const digest = textIn(document, 'digest');
  const bytes = await read(bench, digest);
  assert.equal(bytes.length, numberIn(document, 'size'));
  const predicate = JSON.parse(bytes.toString()) as { runDetails: { builder: unknown }; buildDefinition: Message };
  assert.deepEqual(predicate.runDetails.builder, { id: 'me' });
  assert.equal(messagesIn(predicate.buildDefinition, 'resolvedDependencies').length, 1);
  const [info = {}] = await ask(bench, content('Info'), { digest });
  assert.equal(numberIn(messageIn(info, 'info'), 'size'), bytes.length);
  assert.deepEqual(await read(bench, digest, { offset: 3, size: 4 }), bytes.subarray(3, 7));
  await assert.rejects(read(bench, digest, { offset: bytes.length + 1 }), { status: code.outOfRange });
});

test('builds of several platforms are kept with one document for each', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM scratch\nCOPY d /d\n') });
  await bench.build({ platform: 'linux/amd64,linux/arm64' });
  const results = messageIn(await newestRecord(bench), 'Results');
  assert.deepEqual(Object.keys(results).sort(), ['linux/amd64', 'linux/arm64']);
});

test('a build that failed is kept with where it failed; nothing else of the store is read', async (t) => {
  const bench = await makeBench(t, { files: dockerfile('FROM base\nCOPY nothing /\n') });
  await assert.rejects(bench.build({}), /nothing/);
  const record = await newestRecord(bench);
  const { code: status, message } = messageIn(record, 'error');
  assert.match(String(message), /"\/nothing": not found/);
  const document = messageIn(record, 'externalError');
  const told = decodeMessage('google.rpc.Status', await read(bench, textIn(document, 'digest')));
  assert.deepEqual([told['code'], told['message']], [status, message]);
  const details = new Map(
    messagesIn(told, 'details').map((each): [string, unknown] => [
      textIn(each, 'type_url').replace(/^.*errdefs\./, ''),
      JSON.parse(bytesIn(each, 'value').toString()),
    ]),
  );
  assert.match(String((details.get('Vertex+json') as Message)['digest']), /^sha256:[0-9a-f]{64}$/);
  assert.equal((details.get('Source+json') as { info: Message }).info['filename'], 'Dockerfile');
  const layer = bench.records.find('base')!.layers[0]!.digest;
  for (const path of ['Info', 'Read'])
    await assert.rejects(ask(bench, content(path), { digest: layer }), (error) => {
      assert.ok(error instanceof GrpcError && error.status === code.notFound);
      return true;
    });
});
