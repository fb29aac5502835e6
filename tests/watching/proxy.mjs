// What stands between a service and its stores, and breaks on order: for S3 by requests, for everything else by bytes.
import { createServer as httpServer, request } from 'node:http';
import { connect, createServer } from 'node:net';

const later = (ms) => new Promise((done) => { setTimeout(done, ms); });

async function listening(server) {
  await new Promise((done, failed) => { server.once('error', failed).listen(0, '127.0.0.1', done); });
  return server.address().port;
}

/** Between a service and a server that speaks anything: `away` cuts and refuses, `delay` is of every answer. */
export class Line {
  static async to(port) {
    const line = new Line();
    line.sockets = new Set();
    line.server = createServer((client) => line.carry(client, port));
    line.port = await listening(line.server);
    line.away = false;
    line.delay = 0;
    return line;
  }

  carry(client, port) {
    // A connection that breaks is what this is for: nobody has to be told of it.
    client.on('error', () => {});
    if (this.away) {
      client.destroy();
      return;
    }
    const server = connect(port, '127.0.0.1').on('error', () => client.destroy());
    for (const [one, other] of [[client, server], [server, client]]) {
      this.sockets.add(one);
      one.on('close', () => { this.sockets.delete(one); other.destroy(); });
    }
    client.on('data', (bytes) => { server.write(bytes); });
    let before = Promise.resolve();
    server.on('data', (bytes) => {
      // In their order, each as late as is ordered now.
      before = before.then(async () => {
        if (this.delay) await later(this.delay);
        if (!client.destroyed) client.write(bytes);
      });
    });
  }

  break() {
    this.away = true;
    for (const socket of this.sockets) socket.destroy();
  }

  mend() {
    this.away = false;
    this.delay = 0;
  }

  async close() {
    this.break();
    await new Promise((done) => { this.server.close(done); });
  }
}

/** Between a service and S3: `fault(method, path)` gives `away`, or a status with S3's code, or nothing. */
export class S3Line {
  static async to(port) {
    const line = new S3Line();
    line.mend();
    line.server = httpServer((asked, answer) => line.carry(asked, answer, port));
    line.port = await listening(line.server);
    return line;
  }

  carry(asked, answer, port) {
    const fault = this.fault(asked.method, asked.url);
    if (fault === 'away') {
      asked.socket.destroy();
      return;
    }
    if (fault) {
      asked.resume().on('end', () => {
        answer.writeHead(fault.status, { 'content-type': 'application/xml' });
        answer.end(`<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>ordered by the test</Message></Error>`);
      });
      return;
    }
    // The signature covers the name that the service called: it is passed on as it came.
    const { method, url: path, headers } = asked;
    const onward = request({ host: '127.0.0.1', port, method, path, headers }, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
    });
    onward.on('error', () => asked.socket.destroy());
    asked.on('error', () => onward.destroy());
    asked.pipe(onward);
  }

  break() {
    this.fault = () => 'away';
  }

  /** Puts are answered so; everything else goes on. */
  refusePuts(status, code) {
    this.fault = (method) => (method === 'PUT' ? { status, code } : undefined);
  }

  mend() {
    this.fault = () => undefined;
  }

  async close() {
    this.break();
    this.server.closeAllConnections();
    await new Promise((done) => { this.server.close(done); });
  }
}
