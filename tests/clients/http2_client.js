'use strict';
// Node's own HTTP/2 client, one connection.

const http2 = require('node:http2');
const { once } = require('node:events');
const { origin, pattern, main } = require('./common.js');

const BODY = pattern(4 << 20);

/** A whole exchange. */
async function ask(session, headers, body) {
  const stream = session.request(headers);
  stream.end(body);
  const [response] = await once(stream, 'response');
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return { status: response[':status'], response, body: Buffer.concat(pieces) };
}

const get = (session, path) => ask(session, { ':path': path });

/** A text frame of a client (RFC 6455 5.2), masked with zeros. */
const frame = (text) =>
  Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);

/** RFC 8441: a WebSocket on a stream of the connection. */
async function websocket(session) {
  const socket = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':path': '/ws/over-h2',
    'sec-websocket-version': '13',
    'sec-websocket-protocol': 'chat',
  });
  const [response] = await once(socket, 'response');
  console.log('websocket', response[':status'], response['sec-websocket-protocol']);
  if (response[':status'] !== 200) throw new Error(String(await once(socket, 'data')));
  socket.write(frame('over h2'));
  const [echo] = await once(socket, 'data');
  console.log('echo', echo.subarray(2).toString());
  // Close frame 4003.
  socket.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa3]));
  const [close] = await once(socket, 'data');
  console.log('close', close.readUInt16BE(2));
  socket.end();
}

main(async () => {
  const session = http2.connect(origin);
  await once(session, 'remoteSettings');
  console.log(session.alpnProtocol, session.remoteSettings.enableConnectProtocol);
  const page = await get(session, '/greeting');
  console.log(page.status, page.body.toString());
  const mirrored = await ask(session, { ':method': 'POST', ':path': '/mirror' }, BODY);
  console.log('upload', mirrored.status, mirrored.body.equals(BODY));
  const waiting = get(session, '/wait/news');
  const numbers = Array.from({ length: 40 }, (_, number) => number);
  const answers = await Promise.all(numbers.map((number) => get(session, `/number/${number}`)));
  console.log(
    'parallel',
    answers.every(({ body }, number) => body.toString() === `GET /number/${number}`),
  );
  await get(session, '/mark/news');
  console.log((await waiting).body.toString());
  await websocket(session);
  session.close();
  await once(session, 'close');
});
