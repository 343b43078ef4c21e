'use strict';
// The `ws` package.

const WebSocket = require('ws');
const { once } = require('node:events');
const { origin, pattern, main } = require('./common.js');

const MEBIBYTE = pattern(1 << 20);

async function echoed(socket, message) {
  const answer = once(socket, 'message');
  socket.send(message);
  const [data, binary] = await answer;
  return data.equals(Buffer.from(message)) && binary === Buffer.isBuffer(message);
}

async function open() {
  const url = `${origin.replace('https', 'wss')}/ws/chat?room=2`;
  const socket = new WebSocket(url, ['chat'], { perMessageDeflate: true });
  await once(socket, 'open');
  return socket;
}

main(async () => {
  const socket = await open();
  console.log('open', socket.protocol, socket.extensions);
  console.log('text', await echoed(socket, 'Grüße'), await echoed(socket, ''));
  console.log('binary', await echoed(socket, Buffer.from([0, 255])));
  console.log('a mebibyte', await echoed(socket, MEBIBYTE));
  const pong = once(socket, 'pong');
  socket.ping('hello');
  console.log('pong', (await pong)[0].toString());
  const ping = once(socket, 'ping');
  socket.send('ping me');
  console.log('ping', (await ping)[0].toString());
  console.log('still here', await echoed(socket, 'again'));
  let closed = once(socket, 'close');
  socket.close(4001, 'good night');
  let [code, reason] = await closed;
  console.log('closed', code, reason.toString());

  const other = await open();
  closed = once(other, 'close');
  other.send('close me');
  [code, reason] = await closed;
  console.log('closed by the server', code, reason.toString());
});
